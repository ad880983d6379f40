/* SPDX-License-Identifier: MIT */
/*
 * What a driver written for the original calls of erl_driver.h: memory, locks,
 * thread-specific data, threads. Declared here by hand, so that building the host
 * needs no Erlang; as in https://www.erlang.org/doc/man/erl_driver.html. What is
 * not here (ports, terms, monitors) has no meaning outside the VM: a driver that
 * uses it is refused at start with the symbol's name.
 */
#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "driver.h"
#include "erl_driver_api.h"

static void *
must(void *p)
{
	if (p == NULL)
		abort();	/* no driver checks */
	return p;
}

/* --- memory ------------------------------------------------------------- */

void *
driver_alloc(size_t size)
{
	return malloc(size);
}

/* The reply buffer is not malloc'ed: it is copied out, never made smaller. */
void *
driver_realloc(void *p, size_t size)
{
	char *copy;

	if (p == NULL || p != bench_guarded())
		return realloc(p, size);
	if ((copy = malloc(size > LEGACY_REPLY ? size : LEGACY_REPLY)) != NULL)
		memcpy(copy, p, LEGACY_REPLY);
	return copy;
}

void
driver_free(void *p)
{
	if (p != bench_guarded())
		free(p);
}

/* --- mutexes, conditions, read-write locks ------------------------------- */

ErlDrvMutex *
erl_drv_mutex_create(char *name)
{
	ErlDrvMutex *m = must(malloc(sizeof(*m)));

	m->name = name != NULL ? must(strdup(name)) : NULL;	/* the caller's may be on its stack */
	pthread_mutex_init(&m->lock, NULL);
	return m;
}

void
erl_drv_mutex_destroy(ErlDrvMutex *m)
{
	pthread_mutex_destroy(&m->lock);
	free(m->name);
	free(m);
}

char *
erl_drv_mutex_name(ErlDrvMutex *m)
{
	return m->name;
}

void
erl_drv_mutex_lock(ErlDrvMutex *m)
{
	pthread_mutex_lock(&m->lock);
}

int
erl_drv_mutex_trylock(ErlDrvMutex *m)
{
	return pthread_mutex_trylock(&m->lock);
}

void
erl_drv_mutex_unlock(ErlDrvMutex *m)
{
	pthread_mutex_unlock(&m->lock);
}

ErlDrvCond *
erl_drv_cond_create(char *name)
{
	ErlDrvCond *c = must(malloc(sizeof(*c)));

	c->name = name != NULL ? must(strdup(name)) : NULL;
	pthread_cond_init(&c->cond, NULL);
	return c;
}

void
erl_drv_cond_destroy(ErlDrvCond *c)
{
	pthread_cond_destroy(&c->cond);
	free(c->name);
	free(c);
}

char *
erl_drv_cond_name(ErlDrvCond *c)
{
	return c->name;
}

void
erl_drv_cond_signal(ErlDrvCond *c)
{
	pthread_cond_signal(&c->cond);
}

void
erl_drv_cond_broadcast(ErlDrvCond *c)
{
	pthread_cond_broadcast(&c->cond);
}

void
erl_drv_cond_wait(ErlDrvCond *c, ErlDrvMutex *m)
{
	pthread_cond_wait(&c->cond, &m->lock);
}

ErlDrvRWLock *
erl_drv_rwlock_create(char *name)
{
	ErlDrvRWLock *l = must(malloc(sizeof(*l)));

	l->name = name != NULL ? must(strdup(name)) : NULL;
	pthread_rwlock_init(&l->lock, NULL);
	return l;
}

void
erl_drv_rwlock_destroy(ErlDrvRWLock *l)
{
	pthread_rwlock_destroy(&l->lock);
	free(l->name);
	free(l);
}

char *
erl_drv_rwlock_name(ErlDrvRWLock *l)
{
	return l->name;
}

void
erl_drv_rwlock_rlock(ErlDrvRWLock *l)
{
	pthread_rwlock_rdlock(&l->lock);
}

int
erl_drv_rwlock_tryrlock(ErlDrvRWLock *l)
{
	return pthread_rwlock_tryrdlock(&l->lock);
}

void
erl_drv_rwlock_runlock(ErlDrvRWLock *l)
{
	pthread_rwlock_unlock(&l->lock);
}

void
erl_drv_rwlock_rwlock(ErlDrvRWLock *l)
{
	pthread_rwlock_wrlock(&l->lock);
}

int
erl_drv_rwlock_tryrwlock(ErlDrvRWLock *l)
{
	return pthread_rwlock_trywrlock(&l->lock);
}

void
erl_drv_rwlock_rwunlock(ErlDrvRWLock *l)
{
	pthread_rwlock_unlock(&l->lock);
}

/* --- thread-specific data and threads ------------------------------------ */

int
erl_drv_tsd_key_create(char *name, ErlDrvTSDKey *key)
{
	pthread_key_t made;
	int result = pthread_key_create(&made, NULL);

	(void)name;
	if (result == 0)
		*key = (ErlDrvTSDKey)made;
	return result;
}

void
erl_drv_tsd_key_destroy(ErlDrvTSDKey key)
{
	pthread_key_delete((pthread_key_t)key);
}

void
erl_drv_tsd_set(ErlDrvTSDKey key, void *data)
{
	pthread_setspecific((pthread_key_t)key, data);
}

void *
erl_drv_tsd_get(ErlDrvTSDKey key)
{
	return pthread_getspecific((pthread_key_t)key);
}

ErlDrvThreadOpts *
erl_drv_thread_opts_create(char *name)
{
	ErlDrvThreadOpts *o = must(malloc(sizeof(*o)));

	(void)name;
	o->suggested_stack_size = -1;
	return o;
}

void
erl_drv_thread_opts_destroy(ErlDrvThreadOpts *o)
{
	free(o);
}

/* suggested_stack_size is in kilowords. */
int
erl_drv_thread_create(char *name, ErlDrvTid *tid, void *(*func)(void *), void *arg,
    ErlDrvThreadOpts *opts)
{
	pthread_attr_t attr;
	pthread_t thread;
	int result;

	(void)name;
	pthread_attr_init(&attr);
	if (opts != NULL && opts->suggested_stack_size > 0)
		pthread_attr_setstacksize(&attr, (size_t)opts->suggested_stack_size * 1024 * sizeof(void *));
	result = pthread_create(&thread, &attr, func, arg);
	pthread_attr_destroy(&attr);
	if (result == 0)
		*tid = (ErlDrvTid)thread;
	return result;
}

int
erl_drv_thread_join(ErlDrvTid tid, void **value)
{
	return pthread_join((pthread_t)tid, value);
}

ErlDrvTid
erl_drv_thread_self(void)
{
	return (ErlDrvTid)pthread_self();
}

int
erl_drv_equal_tids(ErlDrvTid a, ErlDrvTid b)
{
	return pthread_equal((pthread_t)a, (pthread_t)b);
}

void
erl_drv_thread_exit(void *value)
{
	pthread_exit(value);
}
