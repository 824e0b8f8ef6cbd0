/*
 * Waiting for datagrams: at the socket, or for the rest of what has begun to come.
 */

#define _GNU_SOURCE
#include "waiting.h"

#include <sys/epoll.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#define REST_NS 300000         /* until the rest of a picture that has begun is read */
#define REST_WELL_NS 4000000   /* until more of what viewers send is read, where it comes fast */
#define FAST 0.001             /* seconds between two batches */

static void wake_by(struct rx *rx, uint32_t events, long nanoseconds)
{
    struct epoll_event socket = {.events = events};
    struct itimerspec timer = {.it_value.tv_nsec = nanoseconds};

    rx->resting = events == 0;
    epoll_ctl(rx->epoll, EPOLL_CTL_MOD, rx->fd, &socket);
    timerfd_settime(rx->timer, 0, &timer, NULL);
}

/* Whether viewers send that all is well so fast that it pays to read it together. */
static int is_busy(const struct rx *rx)
{
    if (!rx->quiet || rx->streams > 0)
        return 0;
    return rx->resting ? rx->count > 1 : rx->now - rx->before < FAST;
}

/* Packets come one by one, and to be woken costs more than to read one. While a picture has
 * begun, its rest is read together, a little later; and what many viewers send likewise. */
void rest(struct rx *rx)
{
    struct itimerspec timer = {.it_value.tv_nsec = rx->begun > 0 ? REST_NS : REST_WELL_NS};

    if (rx->epoll < 0)
        return;
    if (rx->count == BATCH || (rx->begun == 0 && !is_busy(rx))) {
        if (rx->resting)
            wake_by(rx, EPOLLIN, 0);
    } else if (!rx->resting) {
        wake_by(rx, 0, timer.it_value.tv_nsec);
    } else {
        timerfd_settime(rx->timer, 0, &timer, NULL);
    }
}

int rx_watch(struct rx *rx)
{
    struct epoll_event event = {.events = EPOLLIN};

    rx->epoll = epoll_create1(EPOLL_CLOEXEC);
    rx->timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (rx->epoll < 0 || rx->timer < 0 ||
        epoll_ctl(rx->epoll, EPOLL_CTL_ADD, rx->fd, &event) != 0 ||
        epoll_ctl(rx->epoll, EPOLL_CTL_ADD, rx->timer, &event) != 0)
        rx_unwatch(rx);
    return rx->epoll;
}

void rx_unwatch(struct rx *rx)
{
    rx->at = rx->count; /* what waits is for nobody any more */
    rx->more = 0;
    if (rx->epoll >= 0)
        close(rx->epoll);
    if (rx->timer >= 0)
        close(rx->timer);
    rx->epoll = rx->timer = -1;
}

double clock_now(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}
