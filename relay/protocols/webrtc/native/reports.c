/*
 * What viewers are sent beside the media: sender reports, and checks of ours.
 */

#define _GNU_SOURCE
#include "fanout.h"

#include "bytes.h"
#include "consent.h"
#include "messages.h"
#include "packets.h"

#include <string.h>

#define SENDER_REPORT 200
#define DESCRIPTION 202
#define CNAME 1
#define REPORT 28              /* bytes of a sender report without blocks */
#define TOGETHER 4             /* tracks that share a datagram of reports */

static void write_report(const struct fan_track *track, uint8_t *at, uint64_t ntp, double line)
{
    double ticks = line * track->clock_rate;

    at[0] = VERSION;
    at[1] = SENDER_REPORT;
    put16(at + 2, REPORT / 4 - 1);
    put32(at + 4, track->ssrc);
    put32(at + 8, (uint32_t)(ntp >> 32));
    put32(at + 12, (uint32_t)ntp);
    put32(at + 16, track->offset + (uint32_t)(int64_t)(ticks + (ticks < 0 ? -0.5 : 0.5)));
    put32(at + 20, (uint32_t)track->packets);
    put32(at + 24, (uint32_t)track->octets);
}

/* The chunk of one source; returns its length. */
static size_t write_name(const struct fan_track *track, uint8_t *at)
{
    size_t length = track->name_length;
    size_t whole = (6 + length) / 4 * 4 + 4; /* at least one zero ends the list of items */

    memset(at, 0, whole);
    put32(at, track->ssrc);
    at[4] = CNAME;
    at[5] = (uint8_t)length;
    memcpy(at + 6, track->name, length);
    return whole;
}

static int report_together(struct fan_out *out, struct fan_track *const *tracks, unsigned count,
                           uint64_t ntp, double line, struct fan_counts *counts)
{
    uint8_t *start, *at, *head;
    int total;

    if (out->count == MESSAGES ||
        out->used + TOGETHER * (REPORT + sizeof tracks[0]->name + 12) + 4 + TRAILER > ARENA)
        fan_flush(out, counts);
    start = at = out->arena + out->used;
    for (unsigned index = 0; index < count; index++, at += REPORT)
        write_report(tracks[index], at, ntp, line);
    if (tracks[0]->name_length > 0) {
        head = at;
        at += 4;
        for (unsigned index = 0; index < count; index++)
            at += write_name(tracks[index], at);
        head[0] = (uint8_t)(VERSION | count);
        head[1] = DESCRIPTION;
        put16(head + 2, (uint16_t)((at - head) / 4 - 1));
    }
    total = (int)(at - start);
    tracks[0]->status = out->protect_rtcp(tracks[0]->srtp, start, &total);
    if (tracks[0]->status != 0 || total <= 0)
        return -1;
    fan_put(out, tracks[0], start, (size_t)total);
    return 0;
}

size_t fan_report(struct fan_out *out, struct fan_track *const *tracks, size_t count,
                  uint64_t ntp, double line, struct fan_counts *counts)
{
    struct fan_track *together[TOGETHER];
    unsigned number = 0;
    size_t failed = 0;

    for (size_t index = 0; index < count; index++) {
        struct fan_track *track = tracks[index];

        if (track->srtp == NULL || track->packets == 0 || track->name_length > sizeof track->name)
            continue;
        if (number == TOGETHER || (number > 0 && together[0]->srtp != track->srtp)) {
            failed += report_together(out, together, number, ntp, line, counts) != 0;
            number = 0;
        }
        together[number++] = track;
    }
    if (number > 0)
        failed += report_together(out, together, number, ntp, line, counts) != 0;
    fan_flush(out, counts);
    return failed;
}

size_t fan_ask(struct fan_out *out, struct fan_track *const *tracks, size_t count,
               const uint8_t *random, double now, uint32_t *late, struct fan_counts *counts)
{
    size_t number = 0;

    for (size_t index = 0; index < count; index++, random += FAN_RANDOM) {
        struct fan_track *track = tracks[index];
        uint32_t length;
        int told;

        if (track->consent == NULL || track->srtp == NULL)
            continue;
        if (out->count == MESSAGES || out->used + STUN_LONGEST_REQUEST > ARENA)
            fan_flush(out, counts);
        told = consent_ask(track->consent, random, now, out->arena + out->used, &length);
        if (told == CONSENT_LATE)
            late[number++] = (uint32_t)index;
        if (told != CONSENT_ASK)
            continue;
        consent_asked(track->consent, random, now, (uint16_t)(random[12] << 8 | random[13]));
        fan_put(out, track, out->arena + out->used, length);
    }
    fan_flush(out, counts);
    return number;
}
