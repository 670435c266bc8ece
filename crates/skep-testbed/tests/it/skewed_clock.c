/* Preloaded into a daemon, it puts the clock wrong by the seconds in /run/skew, as long as they are there. */
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *now) {
    long result = syscall(SYS_clock_gettime, clock, now);
    if (result != 0 || clock != CLOCK_REALTIME)
        return (int)result;
    int file = open("/run/skew", O_RDONLY | O_CLOEXEC);
    if (file >= 0) {
        char text[32] = "";
        if (read(file, text, sizeof text - 1) > 0)
            now->tv_sec += atol(text);
        close(file);
    }
    return 0;
}
