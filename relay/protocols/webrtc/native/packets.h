/* What a packet of ours looks like, and its number. */
#ifndef RELAY_PACKETS_H
#define RELAY_PACKETS_H

#include "bytes.h"
#include "fanout.h"

#include <string.h>
#include <time.h>

#define HEADER 12
#define VERSION 0x80
#define EXTENSION 0x10
#define MARKER 0x80
#define NUMBER_ONLY 8          /* bytes of an extension of a transport-wide number alone */

struct fan_frame {
    const uint8_t *payloads;    /* one behind the other */
    const uint16_t *lengths;    /* of each */
    size_t packets;
    uint32_t timestamp;
    int32_t marker;             /* set it on the last packet */
};

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

/* Write the extension; returns its length. Only the first packets carry the whole of it. */
static inline size_t write_extension(struct fan_track *track, uint8_t *at, size_t length,
                                     double now, int whole)
{
    size_t size = whole ? track->extension_length : NUMBER_ONLY;

    memcpy(at, track->extension, size);
    if (track->log != NULL) {
        if (!whole) {
            put16(at + 2, NUMBER_ONLY / 4 - 1);
            at[7] = 0;
        }
        put16(at + 5, take_number(track->log, length, now));
    }
    return size;
}

#endif
