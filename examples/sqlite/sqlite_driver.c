/* SPDX-License-Identifier: MIT */
/*
 * sqlite: one database file, one connection a seat, each with its last 16
 * prepared statements.
 *
 * Keys. There is no balance callback (as if it returned NULL): the caller's own
 * key then decides the seat, and so the connection. Statements with one key, on
 * one client connection, run in order on one database connection; without a key
 * any seat takes them.
 *
 * Transactions. `transaction` runs a list of statements as a whole and is what
 * most callers want. BEGIN and COMMIT as calls of their own work only when all
 * the statements between them carry one key, and even then whatever else falls
 * on that seat (key modulo threads) becomes part of the transaction; and one whose
 * caller goes away keeps its lock until somebody ends it on that seat.
 *
 * Settings: database (path, must be given), busy_timeout_ms (5000), max_rows
 * (10000), and the service's own `threads`: the number of connections.
 */
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "gen_driver.h"
#include "statements.h"

enum { EXEC = 1, QUERY = 2, TRANSACTION = 3 };

#define LOOK_EVERY 1000		/* virtual machine steps between two looks at gd_cancelled */
#define NAP_MS 5		/* between two tries for a lock */

struct settings {
	const char *path;
	int busy_ms;
	long max_rows;
};

struct seat {
	sqlite3 *db;			/* NULL: could not be opened yet */
	struct statements statements;	/* of db */
};

static struct settings settings;	/* written by open, then only read */

/* Long statements ask here whether to go on; 1 interrupts them. */
static int
look(void *unused)
{
	(void)unused;
	return gd_cancelled();
}

/* Somebody else holds the lock: 1 tries again. */
static int
wait_for_lock(void *unused, int tries)
{
	static const struct timespec nap = { .tv_nsec = NAP_MS * 1000000L };

	(void)unused;
	if (tries >= settings.busy_ms / NAP_MS || gd_cancelled())
		return 0;
	nanosleep(&nap, NULL);
	return 1;
}

/* A connection, checked to be to a database. SQLite's code; *db is always to be closed.
 * A lock held elsewhere is no reason to refuse: then WAL is for the next to set. */
static int
connect_database(sqlite3 **db)
{
	int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE | SQLITE_OPEN_NOMUTEX;
	int code = sqlite3_open_v2(settings.path, db, flags, NULL);

	if (code != SQLITE_OK)
		return code;
	sqlite3_busy_timeout(*db, settings.busy_ms);
	code = sqlite3_exec(*db, "PRAGMA foreign_keys = ON; PRAGMA journal_mode = WAL", NULL, NULL, NULL);
	return code == SQLITE_BUSY || code == SQLITE_READONLY ? SQLITE_OK : code;
}

static int
driver_open(void **drv_state, char *why, size_t room)
{
	sqlite3 *db = NULL;
	int code;

	*drv_state = NULL;
	settings.path = gd_config("database");
	settings.busy_ms = (int)gd_config_int("busy_timeout_ms", 5000);
	settings.max_rows = gd_config_int("max_rows", 10000);
	if (settings.path == NULL || settings.path[0] == '\0' || strcmp(settings.path, ":memory:") == 0) {
		snprintf(why, room, "the setting database must name a file, which all connections share");
		return -1;
	}
	if (!sqlite3_threadsafe()) {
		snprintf(why, room, "this SQLite was compiled without threads");
		return -1;
	}
	if ((code = connect_database(&db)) != SQLITE_OK)
		snprintf(why, room, "database %s: %s", settings.path,
		    db != NULL ? sqlite3_errmsg(db) : sqlite3_errstr(code));
	sqlite3_close(db);
	return code == SQLITE_OK ? 0 : -1;
}

static void
seat_connect(struct seat *seat)
{
	if (connect_database(&seat->db) == SQLITE_OK) {
		sqlite3_busy_handler(seat->db, wait_for_lock, NULL);
		sqlite3_progress_handler(seat->db, LOOK_EVERY, look, NULL);
		return;
	}
	gd_log(GD_ERROR, "database %s: %s", settings.path, sqlite3_errmsg(seat->db));
	sqlite3_close(seat->db);
	seat->db = NULL;
}

static void *
seat_new(void)
{
	struct seat *seat = calloc(1, sizeof(*seat));

	if (seat != NULL)
		seat_connect(seat);
	return seat;
}

static void
seat_free(void *trd_state)
{
	struct seat *seat = trd_state;

	if (seat == NULL)
		return;
	if (seat->db != NULL) {		/* the last to close writes the WAL back: no request, nobody to cancel */
		sqlite3_progress_handler(seat->db, 0, NULL, NULL);
		sqlite3_busy_timeout(seat->db, settings.busy_ms);
	}
	statements_free(&seat->statements);
	sqlite3_close(seat->db);
	free(seat);
}

/* Run to the end, rows unread. */
static const char *
run_statement(struct seat *seat, sqlite3_stmt *statement, int *changes)
{
	int before = sqlite3_total_changes(seat->db), code;

	do
		code = sqlite3_step(statement);
	while (code == SQLITE_ROW);
	if (code != SQLITE_DONE)
		return failed(seat->db, code);
	/* sqlite3_changes keeps its number over statements that change nothing. */
	*changes = sqlite3_total_changes(seat->db) == before ? 0 : sqlite3_changes(seat->db);
	return NULL;
}

/* What is wrong when a put failed: an infinity, or a reply beyond the limit. */
static const char *
put_failed(int code)
{
	return code == GD_ERANGE ? "range" : "too_large";
}

/* [Name], then [{Value}]: all rows that the statement gives. */
static const char *
put_rows(gd_out *out, struct seat *seat, sqlite3_stmt *statement)
{
	/* Only after the first step is sure how many columns there are now. */
	int code = sqlite3_step(statement), columns = sqlite3_column_count(statement), put = 0;
	long rows = 0;

	gd_put_list(out, (size_t)columns);
	for (int i = 0; i < columns; i++)
		gd_put_text(out, sqlite3_column_name(statement, i));
	if (columns > 0)
		gd_put_nil(out);
	gd_open_list(out);
	for (; code == SQLITE_ROW; code = sqlite3_step(statement)) {
		if (++rows > settings.max_rows)
			return "too_many_rows";
		put = gd_put_tuple(out, (size_t)columns);
		for (int i = 0; i < columns; i++)
			put = put_value(out, statement, i);
		if (put != 0)
			return put_failed(put);
	}
	if (code != SQLITE_DONE)
		return failed(seat->db, code);
	put = gd_close_list(out);
	return put == 0 ? NULL : put_failed(put);
}

/* exec: {Sql, Params} -> {ok, Changes} */
static const char *
exec(gd_req_t *req, gd_res_t *res, struct seat *seat)
{
	sqlite3_stmt *statement;
	const char *error;
	int changes = 0;

	if ((error = get_statement(&req->in, seat->db, &seat->statements, &statement)) == NULL)
		error = run_statement(seat, statement, &changes);
	release(statement);
	gd_put_tuple(&res->out, 2);
	gd_put_atom(&res->out, "ok");
	gd_put_i64(&res->out, changes);
	return error;
}

/* query: {Sql, Params} -> {ok, [Column], [{Value, ..}]} */
static const char *
query(gd_req_t *req, gd_res_t *res, struct seat *seat)
{
	sqlite3_stmt *statement;
	const char *error;

	gd_put_tuple(&res->out, 3);
	gd_put_atom(&res->out, "ok");
	if ((error = get_statement(&req->in, seat->db, &seat->statements, &statement)) == NULL)
		error = put_rows(&res->out, seat, statement);
	release(statement);
	return error;
}

/* The statements of a transaction, each one's changes put. */
static const char *
run_all(gd_in *in, gd_out *out, struct seat *seat, size_t length)
{
	sqlite3_stmt *statement;
	const char *error;
	int changes = 0;

	gd_put_list(out, length);
	for (size_t i = 0; i < length; i++) {
		if ((error = get_statement(in, seat->db, &seat->statements, &statement)) == NULL)
			error = run_statement(seat, statement, &changes);
		release(statement);
		if (error != NULL)
			return error;
		if (sqlite3_get_autocommit(seat->db))
			return "transaction";	/* the statement itself ended it */
		gd_put_i64(out, changes);
	}
	if (gd_get_end(in) != 0)
		return GD_ERR_DECODE;
	return length == 0 || gd_put_nil(out) == 0 ? NULL : "too_large";
}

/* transaction: [{Sql, Params}] -> {ok, [Changes]}: all of it or nothing. */
static const char *
transaction(gd_req_t *req, gd_res_t *res, struct seat *seat)
{
	const char *error;
	size_t length;
	int code;

	if (gd_get_list(&req->in, &length) != 0)
		return GD_ERR_DECODE;
	if (!sqlite3_get_autocommit(seat->db))
		return "transaction";	/* a caller's own BEGIN is open on this connection */
	if ((code = sqlite3_exec(seat->db, "BEGIN IMMEDIATE", NULL, NULL, NULL)) != SQLITE_OK)
		return failed(seat->db, code);
	gd_put_tuple(&res->out, 2);
	gd_put_atom(&res->out, "ok");
	error = run_all(&req->in, &res->out, seat, length);
	if (error == NULL && (code = sqlite3_exec(seat->db, "COMMIT", NULL, NULL, NULL)) != SQLITE_OK)
		error = failed(seat->db, code);
	if (!sqlite3_get_autocommit(seat->db))
		sqlite3_exec(seat->db, "ROLLBACK", NULL, NULL, NULL);
	return error;
}

static void
dispatch(gd_req_t *req, gd_res_t *res, void *drv_state, void *trd_state)
{
	struct seat *seat = trd_state;
	const char *error = "command";

	(void)drv_state;
	if (seat != NULL && seat->db == NULL)
		seat_connect(seat);
	if (seat == NULL || seat->db == NULL) {
		error_set(res, seat == NULL ? GD_ERR_MEMORY : "cantopen");
		return;
	}
	switch (req->cmd) {
	case EXEC: error = exec(req, res, seat); break;
	case QUERY: error = query(req, res, seat); break;
	case TRANSACTION: error = transaction(req, res, seat); break;
	}
	if (error != NULL)
		error_set(res, error);
}

static const gd_command commands[] = {
	{ "exec", EXEC }, { "query", QUERY }, { "transaction", TRANSACTION }, { NULL, 0 },
};
static const char *const atoms[] = {
	"ok", "error", "null", "blob", "busy", "cancelled", "cantopen", "command", "constraint", "corrupt", "full",
	"io", "mismatch", "params", "range", "readonly", "sqlite", "syntax", "too_large", "too_many_rows",
	"transaction", "type", GD_ERR_DECODE, GD_ERR_MEMORY, NULL,
};

GD_DRIVER(
	.open = driver_open, .thread_init = seat_new, .thread_destroy = seat_free,
	.dispatch = dispatch, .commands = commands, .atoms = atoms,
)
