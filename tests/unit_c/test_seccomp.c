/* SPDX-License-Identifier: MIT */
/*
 * The filters of seccomp.c, run by an interpreter of what they consist of, against the tables as they are meant: every
 * call, with the values of each rule and those beside them, in the lower and the upper half of an argument.
 */
#include <linux/seccomp.h>
#include <stdlib.h>

#include "../../gendriverd/host/seccomp.c"
#include "check.h"

#define CALLS 600	/* more than there are */
#define RUNAWAY UINT32_MAX

static uint32_t
word(const struct seccomp_data *data, uint32_t offset)
{
	uint32_t value;

	memcpy(&value, (const char *)data + offset, sizeof(value));
	return value;
}

/* The verdict of a filter; RUNAWAY: it has left itself, or says what it should not. */
static uint32_t
run(const struct filter *f, const struct seccomp_data *data)
{
	uint32_t a = 0;

	for (size_t at = 0; at < f->len; at++) {
		const struct sock_filter *i = &f->at[at];
		switch (i->code) {
		case BPF_LD | BPF_W | BPF_ABS:
			if (i->k % 4 != 0 || i->k + 4 > sizeof(*data))
				return RUNAWAY;
			a = word(data, i->k);
			break;
		case BPF_ALU | BPF_AND | BPF_K:
			a &= i->k;
			break;
		case BPF_JMP | BPF_JEQ | BPF_K:
			at += a == i->k ? i->jt : i->jf;
			break;
		case BPF_JMP | BPF_JGE | BPF_K:
			at += a >= i->k ? i->jt : i->jf;
			break;
		case BPF_RET | BPF_K:
			return i->k;
		default:
			return RUNAWAY;
		}
	}
	return RUNAWAY;
}

static bool
matches(const struct rule *r, const struct seccomp_data *data)
{
	uint64_t whole = data->args[r->arg];
	uint32_t low = (uint32_t)whole;

	if ((uint32_t)data->nr != r->call)
		return false;
	switch ((enum rule_op)r->op) {
	case ALWAYS: return true;
	case IS: return (low & r->mask) == r->value;
	case IS_NOT: return (low & r->mask) != r->value;
	case IS_NULL: return whole == 0;
	case NOT_NULL: return whole != 0;
	case IS_SELF: return low == (uint32_t)getpid();
	case NOT_SELF: return low != (uint32_t)getpid();
	}
	return false;
}

static const struct table {
	const struct rule *rules;
	size_t n;
	bool strict, limited, always;	/* in which filters it is */
	uint32_t verdict;
} tables[] = {
#define TABLE(name, ...) { name, sizeof(name) / sizeof(name[0]), __VA_ARGS__ }
	TABLE(missing_calls, false, false, true, MISSING), TABLE(strict_limited, true, true, false, MISSING),
	TABLE(strict_denied, true, false, false, DENY), TABLE(strict_allowed, true, false, false, SECCOMP_RET_ALLOW),
	TABLE(default_denied, false, false, false, DENY),
};
#define TABLES (sizeof(tables) / sizeof(tables[0]))

static uint32_t
meant(const struct seccomp_data *data, bool strict, bool limited)
{
	if (data->arch != ARCHITECTURE)
		return DENY;
	if ((uint32_t)data->nr >= FOREIGN)
		return MISSING;
	for (const struct table *t = tables; t < tables + TABLES; t++) {
		if (!t->always && (t->strict != strict || (t->limited && !limited)))
			continue;
		for (size_t i = 0; i < t->n; i++)
			if (matches(&t->rules[i], data))
				return t->verdict;
	}
	return strict ? DENY : SECCOMP_RET_ALLOW;
}

static struct filter filters[2][2];	/* strict, limited */

static void
compare(const struct seccomp_data *data)
{
	static char where[128];

	snprintf(where, sizeof(where), "call %d (%#llx, %#llx, %#llx)", data->nr, (unsigned long long)data->args[0],
	    (unsigned long long)data->args[1], (unsigned long long)data->args[2]);
	about = where;
	for (int strict = 0; strict < 2; strict++)
		for (int limited = 0; limited < 2; limited++)
			CHECK(run(&filters[strict][limited], data) == meant(data, strict, limited));
}

/* The argument that a rule looks at, as it asks, and otherwise. */
static void
compare_around(const struct rule *r)
{
	const uint32_t lows[] = { 0, 1, r->value, r->value + 1, r->value - 1, r->value | ~r->mask, r->mask, ~0u,
	    (uint32_t)getpid(), (uint32_t)getpid() + 1 };
	const uint64_t highs[] = { 0, 1ull << 32, ~0ull << 32 };
	struct seccomp_data data = { .arch = ARCHITECTURE, .nr = (int)r->call };

	for (size_t i = 0; i < sizeof(lows) / sizeof(lows[0]); i++)
		for (size_t j = 0; j < sizeof(highs) / sizeof(highs[0]); j++) {
			data.args[r->arg] = highs[j] | lows[i];
			compare(&data);
		}
}

static void
compare_all(void)
{
	static const int odd[] = { -1, INT32_MIN, INT32_MAX, (int)(FOREIGN - 1), (int)FOREIGN, (int)(FOREIGN + 59) };
	struct seccomp_data data = { .arch = ARCHITECTURE };

	for (data.nr = 0; data.nr < CALLS; data.nr++)
		compare(&data);
	for (size_t i = 0; i < sizeof(odd) / sizeof(odd[0]); i++) {
		data.nr = odd[i];
		compare(&data);
	}
	data.arch = AUDIT_ARCH_I386;
	for (data.nr = 0; data.nr < CALLS; data.nr++)
		compare(&data);
	for (const struct table *t = tables; t < tables + TABLES; t++)
		for (size_t i = 0; i < t->n; i++)
			compare_around(&t->rules[i]);
}

int
main(void)
{
	for (int strict = 0; strict < 2; strict++)
		for (int limited = 0; limited < 2; limited++) {
			compile(&filters[strict][limited], strict, limited);
			CHECK(filters[strict][limited].len < ROOM);
		}
	compare_all();
	return check_summary();
}
