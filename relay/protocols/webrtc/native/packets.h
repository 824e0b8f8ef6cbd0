/* What a packet of ours looks like, and its number. */
#ifndef RELAY_PACKETS_H
#define RELAY_PACKETS_H

#include "fanout.h"

#include <time.h>

#define HEADER 12
#define VERSION 0x80
#define EXTENSION 0x10
#define MARKER 0x80
#define NUMBER_ONLY 8          /* bytes of an extension of a transport-wide number alone */

static inline double monotonic(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* The number of a packet that leaves now. */
static inline uint16_t take_number(struct fan_log *log, size_t length, double now)
{
    uint64_t number = log->next++;

    log->octets += length + FAN_OVERHEAD;
    log->sent[number % FAN_REMEMBERED] = (struct fan_sent){now, log->octets};
    return (uint16_t)number;
}

#endif
