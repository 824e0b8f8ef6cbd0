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
#define REPORT 32              /* bytes of a receiver report of one block */
#define SRTCP_ROOM 160         /* what libsrtp may want behind a packet: SRTP_MAX_TRAILER_LEN */

static uint32_t write_report(struct rx_stream *stream, double now, uint8_t *out)
{
    struct rx_reporting *reporting = &stream->reporting;
    uint16_t last = (uint16_t)(stream->next - 1);
    double age = (now - reporting->last_report_at) * 65536;

    reporting->highest += (uint16_t)(last - (uint16_t)reporting->highest);
    out[0] = 0x81;
    out[1] = RECEIVER_REPORT;
    put16(out + 2, REPORT / 4 - 1);
    put32(out + 4, reporting->sender);
    put32(out + 8, stream->ssrc);
    put32(out + 12, reporting->lost & 0xFFFFFF);
    put32(out + 16, reporting->highest);
    put32(out + 20, (uint32_t)stream->jitter);
    put32(out + 24, reporting->last_report);
    put32(out + 28, reporting->last_report != 0 && age > 0 ? (uint32_t)(age + 0.5) : 0);
    memcpy(out + REPORT, reporting->name, reporting->name_length);
    return REPORT + reporting->name_length;
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
    _Alignas(8) uint8_t packet[REPORT + sizeof stream->reporting.name + SRTCP_ROOM];

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
