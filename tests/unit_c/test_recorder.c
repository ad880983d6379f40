/* SPDX-License-Identifier: MIT */
/* The recorder: memory of just the size that was agreed on, and words that say which slot they belong to. */
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "check.h"
#include "recorder.h"

#define SLOTS 5
#define CONNS 3
#define SEATS 2

static int
memory(uint64_t size)
{
	int fd = memfd_create("test", MFD_CLOEXEC);

	CHECK(fd >= 0 && ftruncate(fd, (off_t)size) == 0);
	return fd;
}

static uint32_t
word(const struct slot *s)
{
	return atomic_load(&s->word);
}

/* A descriptor is taken when it is of the size, and closed in any case. */
static void
check_sizes(void)
{
	uint64_t size = recorder_size(SLOTS, CONNS, SEATS);
	int fd = memory(size), ends[2];

	about = "sizes";
	CHECK(recorder_open(fd, SLOTS, CONNS, SEATS) == 0);
	CHECK(fcntl(fd, F_GETFD) < 0);
	CHECK(recorder_here()->size == size && recorder_here()->seats == SEATS);
	CHECK(recorder_open(memory(size - 1), SLOTS, CONNS, SEATS) == -1);
	CHECK(recorder_open(memory(size + 1), SLOTS, CONNS, SEATS) == -1);
	CHECK(pipe(ends) == 0);
	CHECK(recorder_open(ends[0], SLOTS, CONNS, SEATS) == -1);
	CHECK(recorder_open(ends[0], SLOTS, CONNS, SEATS) == -1);	/* closed */
	close(ends[1]);
	CHECK(recorder_here()->size == size);	/* as it was */
}

/* The parts lie behind each other, and do not meet. */
static void
check_parts(void)
{
	unsigned char *begin = (unsigned char *)recorder_here();

	about = "parts";
	CHECK((unsigned char *)recorder_conn(0) == begin + sizeof(struct recorder));
	CHECK((unsigned char *)recorder_slot(0) == (unsigned char *)recorder_conn(CONNS));
	CHECK(recorder_params() == (unsigned char *)recorder_slot(SLOTS));
	CHECK((unsigned char *)recorder_seat(0) >= recorder_params() + RECORDER_PARAMS);
	CHECK((unsigned char *)recorder_seat(SEATS) == begin + recorder_here()->size);
	CHECK(((uintptr_t)recorder_seat(1) & 4095) == 0);
	CHECK(slot_index(recorder_slot(3)) == 3);
}

static void
check_words(void)
{
	struct slot *s = recorder_slot(1), *other = recorder_slot(2);

	about = "words";
	recorder_use(1);
	recorder_use(2);
	CHECK((uint32_t)atomic_load(&recorder_here()->used) == 3);
	slot_set(s, SLOT_RUNNING, 7);
	slot_set(other, SLOT_RUNNING, 7);
	CHECK((word(s) & 7) == SLOT_RUNNING && (word(s) >> SLOT_SEAT_SHIFT & 1023) == 7);
	CHECK(word(s) != word(other));		/* none passes for the other */
	slot_done(s);
	CHECK((word(s) & 7) == SLOT_DONE && (word(s) >> SLOT_SEAT_SHIFT & 1023) == 7);
	recorder_loop(5, LOOP_WAITS);
	CHECK(atomic_load(&recorder_here()->loop) == (5 | LOOP_WAITS));
}

/* Each of the four fields counts. */
static void
check_checks(void)
{
	struct slot *s = recorder_slot(1);
	uint32_t before = slot_check(s);

	about = "checks";
	s->number++;
	CHECK(slot_check(s) != before);
	s->number--;
	s->conn++;
	CHECK(slot_check(s) != before);
	s->conn--;
	s->cmd++;
	CHECK(slot_check(s) != before);
	s->cmd--;
	s->id++;
	CHECK(slot_check(s) != before);
	s->id--;
	CHECK(slot_check(s) == before);
}

int
main(void)
{
	check_sizes();
	check_parts();
	check_words();
	check_checks();
	CHECK(recorder_open(-1, SLOTS, CONNS, SEATS) == 0);
	CHECK(recorder_slots(10, 2, 3) == 10 + 2 + 3 + RECORDER_SPARE);
	return check_summary();
}
