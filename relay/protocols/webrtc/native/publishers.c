/*
 * What a publisher is told now and then, while all is in order: how its packets come (RFC 3550
 * section 6.4.2), and that we still want them (RFC 7675).
 */

#define _GNU_SOURCE
#include "publishers.h"

#include "bytes.h"
#include "consent.h"
#include "names.h"

#include <string.h>
#include <sys/random.h>

#define INTERVAL 1.0           /* seconds between two reports; as ingest.py has it */
#define RECEIVER_REPORT 201
#define REPORT 8               /* bytes of a receiver report without blocks */
#define OF_A_STREAM 24         /* and of each of these */
#define SRTCP_ROOM 160         /* what libsrtp may want behind a packet: SRTP_MAX_TRAILER_LEN */

static uint8_t *write_block(uint8_t *out, struct rx_block *block, uint32_t ssrc, uint16_t next,
                            const struct rx_jitter *jitter, double now)
{
    double age = (now - block->last_report_at) * 65536;

    block->highest += (uint16_t)((uint16_t)(next - 1) - (uint16_t)block->highest);
    put32(out, ssrc);
    put32(out + 4, block->lost & 0xFFFFFF);
    put32(out + 8, block->highest);
    put32(out + 12, (uint32_t)jitter->ticks);
    put32(out + 16, block->last_report);
    put32(out + 20, block->last_report != 0 && age > 0 ? (uint32_t)(age + 0.5) : 0);
    return out + OF_A_STREAM;
}

static uint32_t write_report(struct rx_stream *stream, double now, uint8_t *out)
{
    struct rx_reporting *reporting = &stream->reporting;
    const struct rx_sound *sound = &stream->sound;
    uint8_t *at = write_block(out + REPORT, &reporting->picture, stream->ssrc, stream->next,
                              &stream->jitter, now);

    if (reporting->sounds)
        at = write_block(at, &reporting->sound, sound->ssrc, sound->next, &sound->jitter, now);
    out[0] = reporting->sounds ? 0x82 : 0x81;
    out[1] = RECEIVER_REPORT;
    put16(out + 2, (uint32_t)(at - out) / 4 - 1);
    put32(out + 4, reporting->sender);
    memcpy(at, reporting->name, reporting->name_length);
    return (uint32_t)(at - out) + reporting->name_length;
}

/* Seal a packet of so many bytes, SRTCP_ROOM behind them, and send it. */
static void say(struct rx *rx, struct rx_stream *stream, uint8_t *packet, uint32_t size)
{
    int length = (int)size;

    if (rx->doors.protect_rtcp(stream->reporting.srtp, packet, &length) != 0 || length <= 0)
        stream->reporting.due = 0; /* Python says what is wrong */
    else
        send_to(rx, stream->address, stream->address_length, packet, (uint32_t)length);
}

static void report(struct rx *rx, struct rx_stream *stream)
{
    _Alignas(8) uint8_t packet[REPORT + 2 * OF_A_STREAM + sizeof stream->reporting.name + SRTCP_ROOM];

    say(rx, stream, packet, write_report(stream, rx->now, packet));
}

int tell_arrivals(struct rx *rx, struct rx_stream *stream)
{
    _Alignas(8) uint8_t packet[RX_FEEDBACK + SRTCP_ROOM];
    uint32_t length;

    if (!(stream->reporting.due > 0))
        return 0;
    length = rx_feedback(stream, stream->reporting.sender, packet);
    if (length > 0)
        say(rx, stream, packet, length);
    return length > 0;
}

int note_arrival(struct rx *rx, struct rx_stream *stream, int32_t number)
{
    struct rx_arrival *arrival = &stream->log[stream->arrivals];

    if (number < 0 || stream->arrivals >= RX_LOG)
        return RX_IDLE;
    arrival->at = rx->now;
    arrival->sequence = (uint32_t)number;
    stream->arrivals++;
    if ((stream->arrivals == TELL_AT || rx->now - stream->log[0].at > TELL_AFTER) &&
        !tell_arrivals(rx, stream))
        return RX_NOTED;
    return RX_IDLE;
}

static void ask(struct rx *rx, struct rx_stream *stream)
{
    uint8_t request[STUN_LONGEST_REQUEST], secret[STUN_TRANSACTION + 2];
    uint32_t length;

    if (!(stream->consent.ask_every > 0) || rx->now < stream->consent.ask_at ||
        getrandom(secret, sizeof secret, GRND_NONBLOCK) != sizeof secret)
        return;
    if (consent_ask(&stream->consent, secret, rx->now, request, &length) == CONSENT_ASK &&
        send_to(rx, stream->address, stream->address_length, request, length) == 0)
        consent_asked(&stream->consent, secret, rx->now,
                      (uint16_t)get16(secret + STUN_TRANSACTION));
}

void attend(struct rx *rx, struct rx_stream *stream)
{
    stream->reporting.due = rx->now + INTERVAL;
    report(rx, stream);
    ask(rx, stream);
}

int rx_report(struct rx_stream *stream, void *srtp, const uint8_t *name, uint32_t name_length,
              double now)
{
    struct rx_reporting *reporting = &stream->reporting;

    if (name_length > sizeof reporting->name)
        return -1;
    memcpy(reporting->name, name, name_length);
    reporting->name_length = name_length;
    reporting->srtp = srtp;
    reporting->due = now + INTERVAL;
    return 0;
}
