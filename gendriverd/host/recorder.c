/* SPDX-License-Identifier: MIT */
/* The memory of recorder.h. */
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "recorder.h"

#define PAGE 4096	/* bytes; where they are larger a seat only shares its first and last */

_Static_assert(sizeof(struct slot) == 256, "recorder.py knows it so");
_Static_assert(sizeof(struct conn_record) == 96, "recorder.py knows it so");
_Static_assert(offsetof(struct conn_record, message.msg_len) == 72, "recorder.py knows it so");
_Static_assert(sizeof(struct recorder) == 4096, "recorder.py knows it so");
_Static_assert(sizeof(struct stats_entry) == 1768, "statistics.py knows it so");
_Static_assert(sizeof(struct stats_seat) == STATS_SEAT, "statistics.py knows it so");

static struct recorder *here;
static struct conn_record *conns;
static struct slot *slots;
static struct stats_seat *seats;

/* Where the seats' statistics begin. */
static uint64_t
seats_at(uint32_t n_slots, uint32_t n_conns)
{
	uint64_t end = sizeof(struct recorder) + (uint64_t)n_conns * sizeof(struct conn_record)
	    + (uint64_t)n_slots * sizeof(struct slot) + RECORDER_PARAMS;

	return (end + PAGE - 1) / PAGE * PAGE;
}

uint64_t
recorder_size(uint32_t n_slots, uint32_t n_conns, uint32_t n_seats)
{
	return seats_at(n_slots, n_conns) + (uint64_t)n_seats * sizeof(struct stats_seat);
}

/* Bits that differ from slot to slot, and from host to host: what was overwritten does not have them. */
static uint32_t
tag(uint32_t index)
{
	return (index + 1) * 2654435761u ^ here->key;
}

static void
set_used(uint32_t count)
{
	atomic_store_explicit(&here->used, (uint64_t)tag(count) << 32 | count, memory_order_release);
}

static void *
map(int fd, uint64_t size)
{
	struct stat st;
	void *at;

	if (fd < 0)
		return mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (fstat(fd, &st) != 0 || (uint64_t)st.st_size != size)
		at = MAP_FAILED;
	else
		at = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	return at;
}

int
recorder_open(int fd, uint32_t n_slots, uint32_t n_conns, uint32_t n_seats)
{
	uint64_t size = recorder_size(n_slots, n_conns, n_seats);
	struct recorder *r = map(fd, size);

	if (r == MAP_FAILED)
		return -1;
	here = r;
	conns = (struct conn_record *)(r + 1);
	slots = (struct slot *)(conns + n_conns);
	seats = (struct stats_seat *)((char *)r + seats_at(n_slots, n_conns));
	r->layout = RECORDER_LAYOUT;
	r->slots = n_slots;
	r->conns = n_conns;
	r->seats = n_seats;
	r->size = size;
	set_used(0);
	atomic_store_explicit(&r->magic, RECORDER_MAGIC, memory_order_release);
	return 0;
}

struct recorder *
recorder_here(void)
{
	return here;
}

struct slot *
recorder_slot(uint32_t index)
{
	return &slots[index];
}

unsigned char *
recorder_params(void)
{
	return (unsigned char *)(slots + here->slots);
}

struct conn_record *
recorder_conn(uint32_t index)
{
	return &conns[index];
}

struct stats_seat *
recorder_seat(uint32_t index)
{
	return &seats[index];
}

void
recorder_loop(uint64_t now, uint64_t waits)
{
	atomic_store_explicit(&here->loop, now | waits, memory_order_relaxed);
}

uint32_t
slot_index(const struct slot *s)
{
	return (uint32_t)(s - slots);
}

void
recorder_use(uint32_t index)
{
	slot_set(&slots[index], SLOT_FREE, 0);
	set_used(index + 1);
}

void
slot_set(struct slot *s, enum slot_state state, unsigned seat)
{
	uint32_t word = tag(slot_index(s)) << SLOT_TAG_SHIFT | seat << SLOT_SEAT_SHIFT | (uint32_t)state;

	atomic_store_explicit(&s->word, word, memory_order_release);
}

void
slot_done(struct slot *s)
{
	uint32_t word = atomic_load_explicit(&s->word, memory_order_relaxed);

	word = (word & ~((1u << SLOT_SEAT_SHIFT) - 1)) | SLOT_DONE;
	atomic_store_explicit(&s->word, word, memory_order_release);
}

uint32_t
slot_check(const struct slot *s)
{
	uint64_t h = here->key;

	h = (h ^ s->number) * 0x9e3779b97f4a7c15ull;
	h = (h ^ s->conn) * 0x9e3779b97f4a7c15ull;
	h = (h ^ ((uint64_t)s->cmd << 32 | s->id)) * 0x9e3779b97f4a7c15ull;
	return (uint32_t)(h >> 32);
}
