/* SPDX-License-Identifier: MIT */
/* The control channel: what comes on it, the descriptors that come along, its end. */
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "check.h"
#include "control_words.h"

static int daemon_end;

static void
send_with(const void *data, size_t len, const int *fds, size_t n)
{
	union { struct cmsghdr align; char space[CMSG_SPACE(2 * sizeof(int))]; } control = { 0 };
	struct iovec iov = { (void *)data, len };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };

	if (n > 0) {
		msg.msg_control = control.space;
		msg.msg_controllen = CMSG_SPACE(n * sizeof(int));
		CMSG_FIRSTHDR(&msg)->cmsg_level = SOL_SOCKET;
		CMSG_FIRSTHDR(&msg)->cmsg_type = SCM_RIGHTS;
		CMSG_FIRSTHDR(&msg)->cmsg_len = CMSG_LEN(n * sizeof(int));
		memcpy(CMSG_DATA(CMSG_FIRSTHDR(&msg)), fds, n * sizeof(int));
	}
	CHECK(sendmsg(daemon_end, &msg, 0) == (ssize_t)len);
}

static int
open_descriptors(void)
{
	int n = 0;

	for (int fd = 0; fd < 256; fd++)
		n += fcntl(fd, F_GETFD) >= 0;
	return n;
}

/* One comes along, and is closed on exec; of two at most one does, and none is left open unseen. */
static void
check_descriptors(void)
{
	static const unsigned char ping[] = { 131, 104, 2, 119, 4, 'p', 'i', 'n', 'g', 97, 5 };
	const int fds[2] = { 0, 0 };
	struct control_message m;
	int before = open_descriptors();

	about = "descriptors";
	for (size_t n = 0; n < 3; n++) {
		send_with(ping, sizeof(ping), fds, n);
		CHECK(control_receive(&m) && m.kind == CONTROL_PING && m.number == 5);
		CHECK(n == 2 || (m.fd >= 0) == (n == 1));
		if (m.fd >= 0)
			CHECK(fcntl(m.fd, F_GETFD) == FD_CLOEXEC && close(m.fd) == 0);
		CHECK(open_descriptors() == before);
	}
	CHECK(control_receive(&m) && m.kind == CONTROL_NONE && m.fd == -1);	/* nothing is there */
}

/* Says what is waited for, from a signal's handler, the twentieth time: so the wait was interrupted before. */
static void
say_at_last(int number)
{
	static const unsigned char stop[] = "\203h\2w\4stopa\7";
	static volatile sig_atomic_t times;

	(void)number;
	if (++times == 20 && send(daemon_end, stop, sizeof(stop) - 1, MSG_NOSIGNAL) < 0)
		abort();
}

/* A wait that a signal interrupts goes on; credentials that come along are no descriptor. */
static void
check_waiting(void)
{
	struct sigaction heard = { .sa_handler = say_at_last };
	struct itimerval often = { .it_value = { .tv_usec = 2000 }, .it_interval = { .tv_usec = 2000 } }, never = { 0 };
	int on = 1, off = 0;
	struct start s;
	char why[100];

	about = "waiting";
	CHECK(sigaction(SIGALRM, &heard, NULL) == 0 && setitimer(ITIMER_REAL, &often, NULL) == 0);
	CHECK(control_start(&s, why, sizeof(why)) == -1);
	CHECK(setitimer(ITIMER_REAL, &never, NULL) == 0);
	CHECK(setsockopt(CONTROL_FD, SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)) == 0);
	send_with("\203j", 2, NULL, 0);
	CHECK(control_start(&s, why, sizeof(why)) == -1 && s.recorder == -1);
	CHECK(setsockopt(CONTROL_FD, SOL_SOCKET, SO_PASSCRED, &off, sizeof(off)) == 0);
}

static void
check_channel(void)
{
	struct control_message m;
	struct start s;
	char why[100] = "";
	const int fd = 0;

	about = "channel";
	say_start(0, NULL, 2, 0);
	send_with(message.buf, message.len, &fd, 1);
	gd_out_free(&message);
	CHECK(control_start(&s, why, sizeof(why)) == 0 && s.recorder >= 0 && close(s.recorder) == 0);
	free(s.name);
	free(s.driver);
	send_with("\203j", 2, NULL, 0);
	CHECK(control_start(&s, why, sizeof(why)) == -1 && strstr(why, "{start, Map}") != NULL && s.recorder == -1);
	close(daemon_end);
	CHECK(!control_receive(&m) && m.fd == -1);
	CHECK(control_start(&s, why, sizeof(why)) == -1);
}

int
main(void)
{
	int ends[2];

	if (socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends) != 0 || (daemon_end = fcntl(ends[0], F_DUPFD, 10)) < 0
	    || dup2(ends[1], CONTROL_FD) < 0)
		return 1;
	for (int i = 0; i < 2; i++)
		if (ends[i] != CONTROL_FD)
			close(ends[i]);
	check_descriptors();
	check_waiting();
	check_channel();
	return check_summary();
}
