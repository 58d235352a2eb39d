/* Preloaded, this steps the wall clock that a process sees by the seconds in the file CLOCK_STEP names, at any time. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>

#define REAL(name) static __typeof__(name) *real; if (!real) real = dlsym(RTLD_NEXT, #name)
#define WALL 1000000000L /* s; waiting until an earlier time is by the monotonic clock */

static long step(void)
{
    static volatile long *shared;
    if (!shared) shared = mmap(NULL, sizeof *shared, PROT_READ, MAP_SHARED, open(getenv("CLOCK_STEP"), O_RDONLY), 0);
    return *shared;
}

/* The kernel waits by its own clock. */
static struct timespec kernels(const struct timespec *until)
{
    struct timespec real = *until;
    if (real.tv_sec > WALL) real.tv_sec -= step();
    return real;
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    REAL(clock_gettime);
    int result = real(clock, now);
    if (clock == CLOCK_REALTIME) now->tv_sec += step();
    return result;
}

int gettimeofday(struct timeval *now, void *zone)
{
    REAL(gettimeofday);
    int result = real(now, zone);
    now->tv_sec += step();
    return result;
}

int pthread_cond_timedwait(pthread_cond_t *condition, pthread_mutex_t *mutex, const struct timespec *until)
{
    static __typeof__(pthread_cond_timedwait) *real;
    if (!real) real = dlvsym(RTLD_NEXT, "pthread_cond_timedwait", "GLIBC_2.3.2");
    if (!real) real = dlsym(RTLD_NEXT, "pthread_cond_timedwait");
    struct timespec then = kernels(until);
    return real(condition, mutex, &then);
}

int sem_timedwait(sem_t *semaphore, const struct timespec *until)
{
    REAL(sem_timedwait);
    struct timespec then = kernels(until);
    return real(semaphore, &then);
}
