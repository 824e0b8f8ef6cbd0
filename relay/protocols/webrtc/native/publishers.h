/* What a publisher is told now and then, while all is in order: see struct rx_reporting. */
#ifndef RELAY_PUBLISHERS_H
#define RELAY_PUBLISHERS_H

#include "receiver.h"

#define TELL_AT 200            /* arrivals that do not wait */
#define TELL_AFTER 0.03        /* seconds; as arrivals.py has it */

#pragma GCC visibility push(hidden)

/* Whatever is due is sent; to be called where ``reporting.due`` has come. */
void attend(struct rx *rx, struct rx_stream *stream);

/* Transport-wide feedback about what waits: whether it was written. */
int tell_arrivals(struct rx *rx, struct rx_stream *stream);

/* Note a packet of that transport-wide number, -1: none, that came now. RX_NOTED: Python is to tell
 * of what waits; else RX_IDLE. */
int note_arrival(struct rx *rx, struct rx_stream *stream, int32_t number);

#pragma GCC visibility pop

#endif
