/* SPDX-License-Identifier: MIT */
/*
 * Validating a whole term before anybody decodes it. Pure: no I/O, and no memory
 * but for terms nested deeper than ETF_LEVELS.
 *
 * Validation is iterative and can be done in turns, with the same verdict as in
 * one go. What passes, binary_to_term takes, but for what only it can judge: a map's
 * duplicate keys, and identifiers that claim to come from the receiver's own node.
 * Refused although binary_to_term takes it: compressed terms, LIST_EXT of no
 * elements, BIT_BINARY_EXT of no bytes (of no bits either it ends the VM of OTP 28),
 * references of no words, a sign that is neither 0 nor 1, a comma in a FLOAT_EXT, a fun
 * whose size field is not its size or whose creator is no pid, another integer where the
 * format names SMALL_INTEGER_EXT or INTEGER_EXT, and the VM's own tags 73 and 75.
 */
#ifndef HOST_ETF_H
#define HOST_ETF_H

#include <stddef.h>
#include <stdint.h>

/*
 * depth   tuples, lists, maps and funs around the innermost term; 1: no nesting.
 *         A list that is the tail of a list is the same list.
 * terms   the term itself and all inside, tails of lists too, a byte list as one
 * bignum  bytes of an integer's magnitude
 * The size is the frame's, and is bounded there.
 */
struct etf_limits {
	uint32_t depth, terms, bignum;
};

enum {
	ETF_AGAIN = 1,		/* so far so good: call etf_check_run again */
	ETF_BAD_TERM = -1,
	ETF_COMPRESSED = -2,
	ETF_TRAILING = -3,	/* bytes behind the term */
	ETF_DEEP = -4,
	ETF_MANY = -5,
	ETF_BIGNUM = -6,
	ETF_NOMEM = -7
};

#define ETF_LEVELS 32		/* deeper than that needs the heap */
#define ETF_ELEMS 8

/* A validation under way. May be moved in memory; belongs to one thread at a time. */
struct etf_check {
	const unsigned char *data;
	uint32_t at, len;
	struct etf_limits limits;
	uint32_t terms;			/* announced so far */
	uint32_t depth;			/* levels open: an index into the stack */
	uint32_t room;			/* of the stack */
	struct etf_level {
		uint32_t left;		/* terms not yet begun */
		uint32_t end;		/* of a fun: where it must end; of a list: 1; else 0 */
	} few[ETF_LEVELS], *many;	/* the stack: `many` unless NULL */
	/* The outermost term's first elements: how many, and where they begin. */
	uint32_t elems, elem[ETF_ELEMS];
};

/* data must stay where it is until etf_check_end. Longer than 4 GiB: refused. */
void etf_check_begin(struct etf_check *c, const struct etf_limits *limits,
    const unsigned char *data, size_t len, int with_version);

/* Look at up to max_steps terms (at least 1). 0: all valid; ETF_AGAIN; or a
 * negative code, after which only etf_check_end may follow. */
int etf_check_run(struct etf_check *c, uint32_t max_steps);

/* Frees. Harmless on one that is all zeros, or ended already. */
void etf_check_end(struct etf_check *c);

/* All of the above in one go. */
int etf_check_all(const struct etf_limits *limits, const unsigned char *data, size_t len,
    int with_version);

/* The reason of the goodbye that a negative code costs: docs/protocol.md, rule 3. */
const char *etf_reason(int code);

/* A term's own bytes (for an atom all of it, for a tuple its tag and arity); behind them
 * its `children`. A fun says in `span` how long it claims to be with them; others: 0. */
struct etf_head {
	uint64_t size, children, span;
};

/* 0, or ETF_BAD_TERM, ETF_COMPRESSED, ETF_BIGNUM. Never reads beyond p + left;
 * each child has at least one byte there. */
int etf_head(const unsigned char *p, size_t left, uint32_t bignum, struct etf_head *h);

/* etf_text.c. Characters of UTF-8 text, or -1 when it is none. */
int64_t etf_utf8_length(const unsigned char *text, size_t len);

/* The number in a FLOAT_EXT, whose 31 bytes of text begin at `text`. */
int etf_float_text(const unsigned char *text, double *value);

#endif
