/* A publisher's sound, while all is in order: see struct rx_sound. */
#ifndef RELAY_SOUND_H
#define RELAY_SOUND_H

#include "receiver.h"

#pragma GCC visibility push(hidden)

/* A packet that is none of the picture's: what there is to tell of it, or -1 when it is not the
 * common case. */
int take_sound(struct rx *rx, struct rx_stream *stream, struct rx_event *event,
               uint32_t received);

#pragma GCC visibility pop

#endif
