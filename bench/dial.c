/* SPDX-License-Identifier: MIT */
/* The connections of dial.h. */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "dial.h"

void
die(const char *why)
{
	fprintf(stderr, "load: %s%s%s\n", why, errno != 0 ? ": " : "", errno != 0 ? strerror(errno) : "");
	exit(1);
}

void
put_u32(unsigned char *at, uint32_t n)
{
	n = htonl(n);
	memcpy(at, &n, 4);
}

uint32_t
get_u32(const unsigned char *at)
{
	uint32_t n;

	memcpy(&n, at, 4);
	return ntohl(n);
}

static int
dial_tcp(const char *port)
{
	struct sockaddr_in to = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int fd = socket(AF_INET, SOCK_STREAM, 0), yes = 1;

	to.sin_port = htons((uint16_t)atoi(port));
	if (connect(fd, (struct sockaddr *)&to, sizeof(to)) != 0)
		die("cannot connect over TCP");
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof(yes));
	return fd;
}

int
dial(const char *address)
{
	struct sockaddr_un to = { .sun_family = AF_UNIX };
	int fd;

	if (strncmp(address, "tcp:", 4) == 0)
		return dial_tcp(address + 4);
	if (strncmp(address, "unix:", 5) != 0 || strlen(address + 5) >= sizeof(to.sun_path)) {
		errno = 0;
		die("-a wants unix:PATH or tcp:PORT");
	}
	strcpy(to.sun_path, address + 5);
	fd = socket(AF_UNIX, SOCK_STREAM, 0);
	if (connect(fd, (struct sockaddr *)&to, sizeof(to)) != 0)
		die(address);
	return fd;
}

/* A frame whose tag is looked at, and nothing else. */
static bool
comes(int fd, const char *tag)
{
	unsigned char head[4], body[65536];
	size_t len = strlen(tag);

	return recv(fd, head, 4, MSG_WAITALL) == 4 && get_u32(head) <= sizeof(body) && get_u32(head) >= 5 + len
	    && recv(fd, body, get_u32(head), MSG_WAITALL) == (ssize_t)get_u32(head)
	    && body[3] == 119 && body[4] == len && memcmp(body + 5, tag, len) == 0;
}

void
shake_hands(int fd, const char *instance)
{
	unsigned char hello[512] = { 0, 0, 0, 0, 131, 104, 4, 119, 5, 'h', 'e', 'l', 'l', 'o', 97, 1, 109 };
	size_t len = strlen(instance), at = 17;

	errno = 0;
	if (len > 255)
		die("the instance's name is too long");
	put_u32(hello + at, (uint32_t)len);
	memcpy(hello + at + 4, instance, len);
	at += 4 + len;
	memcpy(hello + at, (unsigned char[]){ 116, 0, 0, 0, 0 }, 5);
	put_u32(hello, (uint32_t)(at + 1));
	if (!comes(fd, "gen_driver"))
		die("no greeting");
	if (send(fd, hello, at + 5, MSG_NOSIGNAL) < 0)
		die("cannot send");
	if (!comes(fd, "welcome"))
		die("the service did not welcome us");
}
