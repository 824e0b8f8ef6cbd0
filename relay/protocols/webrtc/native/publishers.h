/* What a publisher is told now and then, while all is in order: see struct rx_reporting. */
#ifndef RELAY_PUBLISHERS_H
#define RELAY_PUBLISHERS_H

#include "receiver.h"

#pragma GCC visibility push(hidden)

/* Whatever is due is sent; to be called where ``reporting.due`` has come. */
void attend(struct rx *rx, struct rx_stream *stream);

/* Transport-wide feedback about what waits: whether it was written. */
int tell_arrivals(struct rx *rx, struct rx_stream *stream);

#pragma GCC visibility pop

#endif
