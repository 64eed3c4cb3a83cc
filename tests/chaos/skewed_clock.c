/* LD_PRELOAD: this process's wall clock is SKEW_SECONDS ahead. */
#define _GNU_SOURCE
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *now) {
    int result = syscall(SYS_clock_gettime, clock, now);
    const char *skew = getenv("SKEW_SECONDS");
    if (result == 0 && clock == CLOCK_REALTIME && skew != NULL) now->tv_sec += atol(skew);
    return result;
}
