/*
 * The common case of a connected viewer: what it sends keeps it alive and says that all is well.
 *
 * Reports that tell of no loss are kept until Python looks at them; packets that are asked for
 * again are sent again; transport-wide feedback goes no further while it tells of no loss and no
 * queue. All else goes up; its checks, see consent.c.
 */

#include "viewers.h"

#include "again.h"
#include "bytes.h"
#include "feedback.h"

#include <string.h>

#define RECEIVER_REPORT 201
#define TRANSPORT_FEEDBACK 205
#define NACK_FORMAT 1
#define TWCC_FORMAT 15
#define CALM_SHARE 0.95         /* as link.py has it */
#define CALM_QUEUE 0.03
#define LOOK 0.19               /* seconds */
#define BASE_WINDOW 10.0        /* as estimate.py has it */
#define LONE_REPORT 32          /* bytes of a receiver report of one block */
#define NACK_HEAD 12
#define MOST_ASKED 64           /* packets of one NACK: who asks for more asks Python */

/* -- RTCP ----------------------------------------------------------------------------------- */

/* Whether it is one transport-wide feedback and nothing behind it: the first header is in the
 * clear, and the length tells. Nobody has vouched for it; it is lost like any other. */
static int is_lone_feedback(const struct rx_viewer *viewer, const uint8_t *data, int length)
{
    int own = 4 + 4 * (data[2] << 8 | data[3]);

    return data[1] == TRANSPORT_FEEDBACK && (data[0] & 31) == TWCC_FORMAT &&
           length - own == viewer->seal;
}

/* Seconds that a packet has waited in the network, beyond what the path takes at best. */
static double queue_of(struct rx_viewer *viewer, double delay, double now)
{
    if (now >= viewer->base_until) {
        viewer->base_before = viewer->base_until > 0 ? viewer->base : delay;
        viewer->base = delay;
        viewer->base_until = now + BASE_WINDOW;
    }
    if (delay < viewer->base)
        viewer->base = delay;
    return delay - (viewer->base < viewer->base_before ? viewer->base : viewer->base_before);
}

/* Whether this feedback, opened, tells of no loss to speak of and of no queue. */
static int says_well(struct rx_viewer *viewer, const uint8_t *data, int length, double now)
{
    const struct fan_log *log = viewer->log;
    struct feedback told;
    uint64_t back;

    if (log == NULL || feedback_read(&told, data, (uint32_t)length) != 0)
        return 0;
    back = (uint16_t)(log->next - 1 - told.newest);
    if (back >= FAN_REMEMBERED || back >= log->next)
        return 0;
    return told.received >= CALM_SHARE * told.told &&
           queue_of(viewer, told.arrived - log->sent[(log->next - 1 - back) % FAN_REMEMBERED].at,
                    now) < CALM_QUEUE;
}

/* Enough to know it again at another address; see roaming.py. Opening leaves both the head and
 * what stands behind the packet, its index, as they came. */
static void remember(struct rx_viewer *viewer, const uint8_t *data, int length)
{
    int tail = (int)viewer->trailer;

    memcpy(viewer->heard, data, 8);
    if (tail <= (int)sizeof viewer->heard - 8 && tail <= length)
        memcpy(viewer->heard + 8, data + length - tail, (size_t)tail);
}

/* The place of a track of ours; RX_TRACKS: it is none. */
static unsigned track_of(const struct rx_viewer *viewer, uint32_t ssrc)
{
    unsigned at = 0;

    while (at < RX_TRACKS && (viewer->ssrcs[at] == 0 || viewer->ssrcs[at] != ssrc))
        at++;
    return at;
}

/* Whether it begins with a report of one block about a track of ours that tells of no loss. */
static int reports_well(const struct rx_viewer *viewer, const uint8_t *data, int length)
{
    return length >= LONE_REPORT && data[0] == 0x81 && data[1] == RECEIVER_REPORT &&
           get16(data + 2) == LONE_REPORT / 4 - 1 && data[12] == 0 &&
           track_of(viewer, get32(data + 8)) < RX_TRACKS;
}

static void keep_report(struct rx_viewer *viewer, const uint8_t *data, double now)
{
    struct rx_report *report = &viewer->reports[track_of(viewer, get32(data + 8))];

    report->at = now;
    report->count++;
    report->highest = get32(data + 16);
    report->jitter = get32(data + 20);
    report->last_report = get32(data + 24);
    report->delay = get32(data + 28);
}

/* The numbers that one NACK and nothing behind it asks for; 0: it is no such, or asks for many. */
static size_t read_nack(const uint8_t *data, int length, uint16_t *sequences)
{
    size_t count = 0;

    if (length < NACK_HEAD || (data[0] & 0xE0) != 0x80 || (data[0] & 31) != NACK_FORMAT ||
        data[1] != TRANSPORT_FEEDBACK || (int)get16(data + 2) * 4 + 4 != length)
        return 0;
    for (int at = NACK_HEAD; at < length; at += 4) {
        uint32_t first = get16(data + at), following = get16(data + at + 2);

        if (count > MOST_ASKED - 17)
            return 0;
        sequences[count++] = (uint16_t)first;
        for (unsigned bit = 0; bit < 16; bit++)
            if (following >> bit & 1)
                sequences[count++] = (uint16_t)(first + bit + 1);
    }
    return count;
}

/* Send what it asks for again, where that is its right and all of it is kept here. */
static int sends_again(struct rx_viewer *viewer, const uint8_t *data, int length)
{
    uint16_t sequences[MOST_ASKED];
    size_t count = read_nack(data, length, sequences);
    unsigned at;

    if (count == 0 || count > viewer->again)
        return 0;
    at = track_of(viewer, get32(data + 8));
    if (at == RX_TRACKS || viewer->tracks[at] == NULL ||
        fan_again(viewer->tracks[at], sequences, count) != 0)
        return 0;
    viewer->again -= (uint32_t)count;
    return 1;
}

/* Whether that was all: a report that tells of no loss, a NACK, or one behind the other. */
static int deals_with(struct rx_viewer *viewer, const uint8_t *data, int length, double now)
{
    int report = reports_well(viewer, data, length) ? LONE_REPORT : 0;

    if (length > report && !sends_again(viewer, data + report, length - report))
        return 0;
    if (report > 0)
        keep_report(viewer, data, now);
    return 1;
}

int vw_hear(struct rx_viewer *viewer, rx_unprotect unprotect, uint8_t *data, int *length,
            double now)
{
    int received = *length, is_feedback = is_lone_feedback(viewer, data, received);

    if (is_feedback && now < viewer->look_at && (viewer->log == NULL || now < viewer->open_at))
        return VW_DONE;
    if (unprotect(viewer->srtp, data, length) != 0 || *length < 8 || *length > received) {
        viewer->refused++;
        return VW_DONE;
    }
    viewer->opened++;
    viewer->consent.seen = now;
    remember(viewer, data, received);
    if (is_feedback) {
        int well = says_well(viewer, data, *length, now);

        viewer->open_at = well ? now + LOOK : now;
        return well && now < viewer->look_at ? VW_DONE : VW_SAID;
    }
    if (viewer->calm && deals_with(viewer, data, *length, now))
        return VW_DONE;
    return VW_SAID;
}
