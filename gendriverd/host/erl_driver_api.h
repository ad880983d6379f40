/* SPDX-License-Identifier: MIT */
/* Types and functions of erl_driver.h that the host exports (erl_driver_api.c). */
#ifndef HOST_ERL_DRIVER_API_H
#define HOST_ERL_DRIVER_API_H

#include <pthread.h>
#include <stddef.h>

typedef struct { char *name; pthread_mutex_t lock; } ErlDrvMutex;
typedef struct { char *name; pthread_cond_t cond; } ErlDrvCond;
typedef struct { char *name; pthread_rwlock_t lock; } ErlDrvRWLock;
typedef struct { int suggested_stack_size; } ErlDrvThreadOpts;
typedef void *ErlDrvTid;	/* erl_driver.h: struct ErlDrvTid_ * */
typedef int ErlDrvTSDKey;

void *driver_alloc(size_t size);
void *driver_realloc(void *p, size_t size);
void driver_free(void *p);

ErlDrvMutex *erl_drv_mutex_create(char *name);
void erl_drv_mutex_destroy(ErlDrvMutex *m);
char *erl_drv_mutex_name(ErlDrvMutex *m);
void erl_drv_mutex_lock(ErlDrvMutex *m);
int erl_drv_mutex_trylock(ErlDrvMutex *m);
void erl_drv_mutex_unlock(ErlDrvMutex *m);

ErlDrvCond *erl_drv_cond_create(char *name);
void erl_drv_cond_destroy(ErlDrvCond *c);
char *erl_drv_cond_name(ErlDrvCond *c);
void erl_drv_cond_signal(ErlDrvCond *c);
void erl_drv_cond_broadcast(ErlDrvCond *c);
void erl_drv_cond_wait(ErlDrvCond *c, ErlDrvMutex *m);

ErlDrvRWLock *erl_drv_rwlock_create(char *name);
void erl_drv_rwlock_destroy(ErlDrvRWLock *l);
char *erl_drv_rwlock_name(ErlDrvRWLock *l);
void erl_drv_rwlock_rlock(ErlDrvRWLock *l);
int erl_drv_rwlock_tryrlock(ErlDrvRWLock *l);
void erl_drv_rwlock_runlock(ErlDrvRWLock *l);
void erl_drv_rwlock_rwlock(ErlDrvRWLock *l);
int erl_drv_rwlock_tryrwlock(ErlDrvRWLock *l);
void erl_drv_rwlock_rwunlock(ErlDrvRWLock *l);

int erl_drv_tsd_key_create(char *name, ErlDrvTSDKey *key);
void erl_drv_tsd_key_destroy(ErlDrvTSDKey key);
void erl_drv_tsd_set(ErlDrvTSDKey key, void *data);
void *erl_drv_tsd_get(ErlDrvTSDKey key);

ErlDrvThreadOpts *erl_drv_thread_opts_create(char *name);
void erl_drv_thread_opts_destroy(ErlDrvThreadOpts *o);
int erl_drv_thread_create(char *name, ErlDrvTid *tid, void *(*func)(void *), void *arg,
    ErlDrvThreadOpts *opts);
int erl_drv_thread_join(ErlDrvTid tid, void **value);
ErlDrvTid erl_drv_thread_self(void);
int erl_drv_equal_tids(ErlDrvTid a, ErlDrvTid b);
void erl_drv_thread_exit(void *value);

#endif
