/* What was sent to many, and is asked for again. */
#ifndef RELAY_AGAIN_H
#define RELAY_AGAIN_H

#include "packets.h"

#pragma GCC visibility push(hidden)

/* A frame was sent along to all that follow. */
void fan_keep(struct fan_history *history, const struct fan_frame *frame);

#pragma GCC visibility pop

#endif
