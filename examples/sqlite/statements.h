/* SPDX-License-Identifier: MIT */
/*
 * Statements of one connection: the 16 used last, kept prepared; and the ways
 * from terms to params and from columns to terms. For sqlite_driver.c alone;
 * a header so that the driver stays one compiler call.
 *
 *   SQLite   a param                 a column's value
 *   INTEGER  integer (64 bits)       integer
 *   REAL     float                   float
 *   TEXT     binary                  binary
 *   BLOB     {blob, binary}          {blob, binary}
 *   NULL     null                    null
 */
#ifndef STATEMENTS_H
#define STATEMENTS_H

#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>

#include "gen_driver.h"

#define STATEMENTS 16

struct cached {
	sqlite3_stmt *statement;	/* NULL: free */
	char *sql;
	size_t size;
	unsigned long used;		/* the clock, when last used */
};

struct statements {
	struct cached all[STATEMENTS];
	unsigned long clock;		/* counts uses */
};

static void
cached_free(struct cached *c)
{
	sqlite3_finalize(c->statement);
	free(c->sql);
	*c = (struct cached){ 0 };
}

static void
statements_free(struct statements *s)
{
	for (size_t i = 0; i < STATEMENTS; i++)
		cached_free(&s->all[i]);
}

/* What a caller is told of SQLite's codes; the sentence goes to the log. */
static const char *
error_name(int code)
{
	switch (code & 0xff) {
	case SQLITE_ERROR: return "syntax";	/* also: no such table, no transaction .. */
	case SQLITE_BUSY: case SQLITE_LOCKED: return "busy";
	case SQLITE_CONSTRAINT: return "constraint";
	case SQLITE_READONLY: return "readonly";
	case SQLITE_INTERRUPT: return "cancelled";
	case SQLITE_FULL: return "full";
	case SQLITE_IOERR: return "io";
	case SQLITE_CORRUPT: case SQLITE_NOTADB: return "corrupt";
	case SQLITE_CANTOPEN: return "cantopen";
	case SQLITE_TOOBIG: return "too_large";
	case SQLITE_MISMATCH: return "mismatch";
	case SQLITE_NOMEM: return GD_ERR_MEMORY;
	default: return "sqlite";
	}
}

static const char *
failed(sqlite3 *db, int code)
{
	gd_log(GD_INFO, "%s", sqlite3_errmsg(db));
	return error_name(code);
}

/* Prepare sql into c: one statement, with nothing but blanks behind it. */
static const char *
prepare(sqlite3 *db, struct cached *c, const char *sql, size_t size)
{
	const char *rest;
	int code;

	if ((c->sql = malloc(size + 1)) == NULL)
		return GD_ERR_MEMORY;
	memcpy(c->sql, sql, size);
	c->sql[size] = '\0';
	c->size = size;
	code = sqlite3_prepare_v3(db, c->sql, -1, SQLITE_PREPARE_PERSISTENT, &c->statement, &rest);
	if (code != SQLITE_OK)
		return failed(db, code);
	if (c->statement == NULL || rest[strspn(rest, " \t\r\n;")] != '\0' || strlen(c->sql) != size)
		return "syntax";
	return NULL;
}

/* The statement for sql: the one kept, or a new one in place of the least
 * recently used. It stays the cache's. */
static const char *
find_statement(sqlite3 *db, struct statements *s, const char *sql, size_t size,
    sqlite3_stmt **statement)
{
	struct cached *c = &s->all[0];
	const char *error;

	for (size_t i = 0; i < STATEMENTS; i++) {
		struct cached *other = &s->all[i];
		if (other->statement != NULL && other->size == size && memcmp(other->sql, sql, size) == 0) {
			other->used = ++s->clock;
			*statement = other->statement;
			return NULL;
		}
		if (other->used < c->used)
			c = other;
	}
	cached_free(c);
	if ((error = prepare(db, c, sql, size)) != NULL) {
		cached_free(c);
		return error;
	}
	c->used = ++s->clock;
	*statement = c->statement;
	return NULL;
}

/* One param: integer, float, binary (text), {blob, Binary}, null. The bytes stay
 * in the request, which outlives the statement's run: SQLITE_STATIC. */
static const char *
bind_one(gd_in *in, sqlite3_stmt *statement, int at)
{
	const void *data;
	size_t size, arity;
	int64_t integer;
	double number;
	gd_type type = gd_peek(in);
	int code;

	if (gd_get_i64(in, &integer) == 0)
		code = sqlite3_bind_int64(statement, at, integer);
	else if (gd_get_f64(in, &number) == 0)
		code = sqlite3_bind_double(statement, at, number);
	else if (gd_get_binary(in, &data, &size) == 0)
		code = sqlite3_bind_text64(statement, at, data, size, SQLITE_STATIC, SQLITE_UTF8);
	else if (gd_get_atom_is(in, "null") == 0)
		code = sqlite3_bind_null(statement, at);
	else if (gd_get_tuple(in, &arity) == 0 && arity == 2 && gd_get_atom_is(in, "blob") == 0 &&
	    gd_get_binary(in, &data, &size) == 0)
		code = sqlite3_bind_blob64(statement, at, data, size, SQLITE_STATIC);
	else
		return type == GD_INT || type == GD_BIG ? "range" : "type";
	return code == SQLITE_OK ? NULL : error_name(code);
}

/* {Sql, Params}: the statement, its params bound, to be released also after an
 * error (NULL then means there is none). */
static const char *
get_statement(gd_in *in, sqlite3 *db, struct statements *s, sqlite3_stmt **statement)
{
	size_t arity, size, params;
	const char *error;
	const void *sql;

	*statement = NULL;
	if (gd_get_tuple(in, &arity) != 0 || arity != 2 || gd_get_binary(in, &sql, &size) != 0 ||
	    gd_get_list(in, &params) != 0)
		return GD_ERR_DECODE;
	if ((error = find_statement(db, s, sql, size, statement)) != NULL)
		return error;
	if (params != (size_t)sqlite3_bind_parameter_count(*statement))
		return "params";
	for (size_t i = 1; i <= params; i++)
		if ((error = bind_one(in, *statement, (int)i)) != NULL)
			return error;
	return gd_get_end(in) == 0 ? NULL : GD_ERR_DECODE;
}

/* Forget the params, which point into the request, and let go of locks. */
static void
release(sqlite3_stmt *statement)
{
	if (statement == NULL)
		return;
	sqlite3_reset(statement);
	sqlite3_clear_bindings(statement);
}

static int
put_value(gd_out *out, sqlite3_stmt *statement, int column)
{
	switch (sqlite3_column_type(statement, column)) {
	case SQLITE_INTEGER:
		return gd_put_i64(out, sqlite3_column_int64(statement, column));
	case SQLITE_FLOAT:
		return gd_put_f64(out, sqlite3_column_double(statement, column));
	case SQLITE_NULL:
		return gd_put_atom(out, "null");
	case SQLITE_BLOB:
		gd_put_tuple(out, 2);
		gd_put_atom(out, "blob");
		break;
	default:
		/* Asked for as text first: that fixes what the size below counts. */
		(void)sqlite3_column_text(statement, column);
	}
	const void *data = sqlite3_column_blob(statement, column);
	return gd_put_binary(out, data != NULL ? data : "", (size_t)sqlite3_column_bytes(statement, column));
}

#endif
