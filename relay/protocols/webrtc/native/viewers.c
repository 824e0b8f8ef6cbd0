/*
 * The common case of a connected viewer: what it sends keeps it alive and says that all is well.
 *
 * Reports that tell of no loss are kept until Python looks at them; transport-wide feedback goes
 * no further while it tells of no loss and no queue. All else goes up; its checks, see consent.c.
 */

#include "viewers.h"

#include "bytes.h"
#include "fanout.h"
#include "feedback.h"

#include <string.h>

#define RECEIVER_REPORT 201
#define TRANSPORT_FEEDBACK 205
#define TWCC_FORMAT 15
#define CALM_SHARE 0.95         /* as link.py has it */
#define CALM_QUEUE 0.03
#define LOOK 0.19               /* seconds */
#define BASE_WINDOW 10.0        /* as estimate.py has it */
#define LONE_REPORT 32          /* bytes of a receiver report of one block */

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

/* A report of one block about a track of ours that tells of no loss: whether it was kept. */
static int keep_report(struct rx_viewer *viewer, const uint8_t *data, int length, double now)
{
    if (length != LONE_REPORT || data[0] != 0x81 || data[1] != RECEIVER_REPORT ||
        data[2] != 0 || data[3] != LONE_REPORT / 4 - 1 || data[12] != 0)
        return 0;
    for (unsigned at = 0; at < RX_TRACKS; at++) {
        struct rx_report *report = &viewer->reports[at];

        if (viewer->ssrcs[at] == 0 || viewer->ssrcs[at] != get32(data + 8))
            continue;
        report->at = now;
        report->count++;
        report->highest = get32(data + 16);
        report->jitter = get32(data + 20);
        report->last_report = get32(data + 24);
        report->delay = get32(data + 28);
        return 1;
    }
    return 0;
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
    if (viewer->calm && keep_report(viewer, data, *length, now))
        return VW_DONE;
    return VW_SAID;
}
