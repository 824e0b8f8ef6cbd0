/* So many a second, and at once: as budget.py has it. */
#ifndef RELAY_BUDGET_H
#define RELAY_BUDGET_H

#include "bytes.h"
#include "receiver.h"

/* Whether one more is within it; it is then spent. */
static inline int spend(double *tokens, double *filled_at, double now, double rate, double burst)
{
    if (*tokens < 1) {
        *tokens += (now - *filled_at) * rate;
        if (*tokens > burst)
            *tokens = burst;
        *filled_at = now;
    }
    if (*tokens < 1)
        return 0;
    *tokens -= 1;
    return 1;
}

/* Whether one more datagram from there is dealt with. */
static inline int within_budget(const struct rx *rx, struct rx_route *route)
{
    if (spend(&route->tokens, &route->refilled, rx->now, rx->limits.rate, rx->limits.burst))
        return 1;
    route->limited++;
    return 0;
}

/* The same of a publisher's packet, of 12 bytes at least; whoever only sends in its name does not
 * know its SSRCs. */
static inline int is_looked_at(const struct rx *rx, struct rx_stream *stream, const uint8_t *data)
{
    uint32_t ssrc = get32(data + (data[1] >= 192 && data[1] <= 223 ? 4 : 8));

    if (ssrc == stream->ssrc || ssrc == stream->sound.ssrc)
        return within_budget(rx, &stream->route);
    if (spend(&stream->others, &stream->others_at, rx->now, rx->limits.rate, rx->limits.burst))
        return 1;
    stream->route.limited++;
    return 0;
}

#endif
