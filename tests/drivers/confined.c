/* SPDX-License-Identifier: MIT */
/*
 * Tries what a driver that the service confines is not to do, and answers with the
 * errno of it, 0 when it could: for the test that boots a systemd.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "gen_driver.h"

enum { WRITE = 1, READ, EXECUTABLE, SOCKET, LANDLOCK, PID };

static int
open_file(gd_req_t *req, int flags)
{
	const void *text;
	char path[256] = "", byte = 'x';
	size_t size;
	int fd, failed;

	if (gd_get_binary(&req->in, &text, &size) != 0 || size >= sizeof(path))
		return EINVAL;
	memcpy(path, text, size);
	if ((fd = open(path, flags | O_CLOEXEC, 0600)) < 0)
		return errno;
	failed = (flags & O_CREAT ? write(fd, &byte, 1) : read(fd, &byte, 1)) < 0 ? errno : 0;
	close(fd);
	return failed;
}

static int
map_executable(void)
{
	void *page = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (page == MAP_FAILED)
		return errno;
	munmap(page, 4096);
	return 0;
}

static int
make_socket(gd_req_t *req)
{
	int64_t family;
	int fd;

	if (gd_get_i64(&req->in, &family) != 0)
		return EINVAL;
	if ((fd = socket((int)family, SOCK_DGRAM, 0)) < 0)
		return errno;
	close(fd);
	return 0;
}

/* Asks for the version of Landlock, which needs no right but to ask. */
static int
ask_landlock(void)
{
#ifdef SYS_landlock_create_ruleset
	return syscall(SYS_landlock_create_ruleset, NULL, 0, 1) < 0 ? errno : 0;
#else
	return syscall(444, NULL, 0, 1) < 0 ? errno : 0;
#endif
}

static void
dispatch(gd_req_t *req, gd_res_t *res, void *drv_state, void *trd_state)
{
	int64_t answer = EINVAL;

	(void)drv_state, (void)trd_state;
	switch (req->cmd) {
	case WRITE: answer = open_file(req, O_WRONLY | O_CREAT); break;
	case READ: answer = open_file(req, O_RDONLY); break;
	case EXECUTABLE: answer = map_executable(); break;
	case SOCKET: answer = make_socket(req); break;
	case LANDLOCK: answer = ask_landlock(); break;
	case PID: answer = getpid(); break;
	default: break;
	}
	gd_put_i64(&res->out, answer);
}

static const gd_command commands[] = { { "write", WRITE }, { "read", READ }, { "executable", EXECUTABLE },
	{ "socket", SOCKET }, { "landlock", LANDLOCK }, { "pid", PID }, { NULL, 0 } };

GD_DRIVER(.dispatch = dispatch, .commands = commands)
