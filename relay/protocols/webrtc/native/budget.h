/* So many a second, and at once: as budget.py has it. */
#ifndef RELAY_BUDGET_H
#define RELAY_BUDGET_H

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

#endif
