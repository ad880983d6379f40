/* SPDX-License-Identifier: MIT */
/*
 * What libraries do that mean no harm, one thing for each command: true is answered when all of it worked. Its setting:
 * the file `listed`, which it may read.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <locale.h>
#include <netdb.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/timerfd.h>
#include <syslog.h>
#include <time.h>
#include <unistd.h>

#include "gen_driver.h"

#define THREADS 16

static void *
allocate(void *sum)
{
	for (size_t i = 1; i < 2000; i++) {
		unsigned char *block = malloc(i * 37 % 300000 + 1);
		if (block == NULL)
			return sum;
		block[0] = 1;
		block = realloc(block, i * 91 % 300000 + 1);
		__atomic_add_fetch((long *)sum, block != NULL ? block[0] : 0, __ATOMIC_RELAXED);
		free(block);
	}
	return NULL;
}

static bool
threads(void)
{
	pthread_t thread[THREADS];
	long sum = 0;
	int made = 0;

	while (made < THREADS && pthread_create(&thread[made], NULL, allocate, &sum) == 0)
		made++;
	for (int i = 0; i < made; i++)
		pthread_join(thread[i], NULL);
	return made == THREADS && sum == THREADS * 1999l;
}

static void
count(void *sum)
{
	__atomic_add_fetch((int *)sum, 1, __ATOMIC_RELAXED);
}

/* A library of the system's, which makes threads of its own; where there is none, nothing is asked. */
static bool
openmp(void)
{
	void *library = dlopen("libgomp.so.1", RTLD_NOW);
	void (*parallel)(void (*)(void *), void *, unsigned, unsigned);
	int sum = 0;

	if (library == NULL)
		return true;
	*(void **)&parallel = dlsym(library, "GOMP_parallel");
	parallel(count, &sum, 4, 0);
	return sum == 4;
}

/* One that lies beside the driver's own file. */
static bool
beside(void)
{
	void *library = dlopen("confined.so", RTLD_NOW | RTLD_LOCAL);

	return library != NULL && dlsym(library, "gd_driver_table") != NULL;
}

static bool
places(void)
{
	time_t winter = 1700000000;
	struct tm here;
	locale_t c = newlocale(LC_ALL_MASK, "C.UTF-8", NULL);

	setenv("TZ", "Asia/Kolkata", 1);
	tzset();
	if (localtime_r(&winter, &here) == NULL || (here.tm_gmtoff != 19800 && access("/usr/share/zoneinfo", F_OK) == 0))
		return false;
	if (c != NULL)
		freelocale(c);
	return c != NULL && setlocale(LC_ALL, "") != NULL;
}

static bool
clocks(void)
{
	struct itimerspec soon = { .it_value = { 0, 1000 } };
	struct timespec t, nap = { 0, 1000 };
	struct rusage usage;
	uint64_t expired;
	int fd = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC);
	bool fine = timerfd_settime(fd, 0, &soon, NULL) == 0 && read(fd, &expired, sizeof(expired)) > 0;

	close(fd);
	for (clockid_t id = CLOCK_REALTIME; id <= CLOCK_THREAD_CPUTIME_ID; id++)
		fine = fine && clock_gettime(id, &t) == 0 && clock_getres(id, &t) == 0;
	return fine && clock_nanosleep(CLOCK_MONOTONIC, 0, &nap, NULL) == 0 && clock() != (clock_t)-1
	    && getrusage(RUSAGE_SELF, &usage) == 0;
}

static bool
map_listed(void)
{
	int fd = open(gd_config("listed"), O_RDONLY);
	struct stat s;
	char *text = fd >= 0 && fstat(fd, &s) == 0 ? mmap(NULL, (size_t)s.st_size, PROT_READ, MAP_PRIVATE, fd, 0)
	    : MAP_FAILED;
	FILE *file = fopen(gd_config("listed"), "r");
	char line[16] = "";
	bool fine = text != MAP_FAILED && memcmp(text, "listed", 6) == 0
	    && file != NULL && fgets(line, sizeof(line), file) != NULL && strncmp(line, "listed", 6) == 0;

	if (file != NULL)
		fclose(file);
	close(fd);
	return fine;
}

static bool
descriptors(void)
{
	int pair[2], event = eventfd(0, EFD_CLOEXEC), poller = epoll_create1(EPOLL_CLOEXEC), memory = memfd_create("x", 0);
	struct epoll_event wanted = { .events = EPOLLIN };
	bool fine = pipe2(pair, O_CLOEXEC) == 0 && socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0
	    && eventfd_write(event, 1) == 0 && epoll_ctl(poller, EPOLL_CTL_ADD, event, &wanted) == 0
	    && epoll_wait(poller, &wanted, 1, -1) == 1 && poll(&(struct pollfd){ event, POLLIN, 0 }, 1, -1) == 1
	    && ftruncate(memory, 4096) == 0 && isatty(event) == 0 && sysconf(_SC_NPROCESSORS_ONLN) > 0
	    && pthread_setname_np(pthread_self(), "honest") == 0;
	sem_t semaphore;

	return fine && sem_init(&semaphore, 0, 1) == 0 && sem_wait(&semaphore) == 0;
}

static bool
options(void)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET };
	struct timeval second = { 1, 0 };
	int pair[2], pipes[2], memory = memfd_create("x", MFD_ALLOW_SEALING), waiting = -1, on = 1, room = 65536;
	bool fine = socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0 && pipe2(pipes, O_NONBLOCK) == 0
	    && setsockopt(pair[0], SOL_SOCKET, SO_SNDBUF, &room, sizeof(room)) == 0
	    && setsockopt(pair[0], SOL_SOCKET, SO_PASSCRED, &on, sizeof(on)) == 0
	    && setsockopt(pair[0], SOL_SOCKET, SO_RCVTIMEO, &second, sizeof(second)) == 0
	    && ioctl(pair[0], FIONREAD, &waiting) == 0 && waiting == 0 && ioctl(pair[0], FIONBIO, &on) == 0
	    && ioctl(pair[0], FIOCLEX) == 0 && (fcntl(pair[0], F_GETFD) & FD_CLOEXEC) != 0
	    && (fcntl(pair[0], F_GETFL) & O_NONBLOCK) != 0 && fcntl(pair[0], F_DUPFD_CLOEXEC, 0) >= 0
	    && fcntl(pipes[0], F_GETPIPE_SZ) > 0 && fcntl(memory, F_SETLKW, &lock) == 0
	    && fcntl(memory, F_OFD_GETLK, &lock) == 0 && lock.l_type == F_WRLCK && fcntl(memory, F_ADD_SEALS, F_SEAL_SHRINK) == 0
	    && fcntl(memory, F_GET_SEALS) == F_SEAL_SHRINK;

	return fine && isatty(pair[0]) == 0 && errno == ENOTTY;
}

/* --- of `default` alone ------------------------------------------------ */

static bool
programs(void)
{
	FILE *shell = popen("echo $((6 * 7))", "r");
	char line[16] = "";
	bool fine = shell != NULL && fgets(line, sizeof(line), shell) != NULL && strcmp(line, "42\n") == 0;

	return fine && pclose(shell) == 0 && system("true") == 0;
}

static bool
names(void)
{
	struct addrinfo *found = NULL;
	bool fine = getaddrinfo("localhost", "80", NULL, &found) == 0 && found != NULL;

	if (found != NULL)
		freeaddrinfo(found);
	syslog(LOG_DEBUG, "honest");
	return fine;
}

static bool
temporary(void)
{
	char name[] = "/tmp/gendriverd-honest-XXXXXX";
	FILE *file = tmpfile();
	int fd = mkstemp(name);
	bool fine = file != NULL && fputs("x", file) >= 0 && fclose(file) == 0 && fd >= 0 && fchmod(fd, 0644) == 0;

	close(fd);
	return unlink(name) == 0 && fine;
}

static bool (*const things[])(void) = {
	threads, openmp, beside, places, clocks, map_listed, descriptors, options, programs, names, temporary,
};
static const gd_command commands[] = {
	{ "threads", 0 }, { "openmp", 1 }, { "beside", 2 }, { "places", 3 }, { "clocks", 4 }, { "map_listed", 5 },
	{ "descriptors", 6 }, { "options", 7 }, { "programs", 8 }, { "names", 9 }, { "temporary", 10 }, { NULL, 0 },
};

static void
dispatch(gd_req_t *req, gd_res_t *res, void *drv_state, void *trd_state)
{
	(void)drv_state, (void)trd_state;
	if (req->cmd >= 0 && (size_t)req->cmd < sizeof(things) / sizeof(things[0]))
		gd_put_bool(&res->out, things[req->cmd]());
}

GD_DRIVER(.dispatch = dispatch, .commands = commands)
