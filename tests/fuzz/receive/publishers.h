/*
 * What three publishers are told natively, for fuzz_receive.c: reports, answers to their checks and
 * checks of ours.
 */

#define OF_A_PUBLISHER 0xB0     /* first byte of a check of theirs, or an answer to one of ours */
#define OF_SOUND 0xD0           /* the same of a packet of sound */

struct told {
    uint64_t answered;
    uint64_t reports;
    double since;
};

static struct told published[3];

static ssize_t fake_getrandom(void *buffer, size_t length, unsigned flags)
{
    check(flags & GRND_NONBLOCK);
    memset(buffer, 0x42, length);
    return take() == 0xFF ? -1 : (ssize_t)length;
}

static int protect_rtcp(void *context, void *packet, int *length)
{
    uint8_t *data = packet;

    (void)context;
    memset(data + *length, 0x5E, SRTCP_ROOM); /* there is as much room */
    *length += 14;
    return take() == 0xFF ? 7 : 0;
}

static void begin_sound(struct rx_stream *stream)
{
    struct rx_sound *from = &stream->sound;
    uint8_t back = take();

    from->flows = 1;
    from->payload_type = 111;
    from->ssrc = 0x0A0B0C00 + stream->number;
    from->next = 0xFFF0;
    from->ticks = from->timestamp = 0xFFFFFF00;
    from->offset = back & 1 ? -(int64_t)back * (1 << 24) : back;
    from->tokens = back;
    from->filled_at = now;
}

static void begin_publisher(struct rx_stream *stream, unsigned number)
{
    uint8_t name[9], password[24];

    memset(name, 'p' + (int)number, sizeof name);
    memset(password, 'P' + (int)number, sizeof password);
    check(rx_agree(&stream->consent, name, sizeof name, password, sizeof password, password, 12) ==
          0);
    stream->consent.answered = 1;
    begin_sound(stream);
    published[number] = (struct told){0, 0, now};
}

/* A unit of sound, as it is told; and then Python may take it, or change where it is laid. */
static void on_sound(const struct rx *rx, const struct rx_event *event)
{
    struct rx_sound *from = &event->stream->sound;
    int64_t eighths = from->ticks * 15, over = (eighths % 8 + 8) % 8;
    uint8_t act = take();

    check(event->length > 0 && event->length <= LARGEST && event->data == rx->sound);
    check(event->pts == (eighths - over) / 8 + from->offset);
    check(from->flows && from->packets > 0 && from->heard == event->arrival);
    if (act & 0x40)
        begin_sound(event->stream);
    from->flows = (act & 0x0E) != 0x0E;
}

/* Something is done about one of which a picture has come. */
static void rule_publisher(const struct rx *rx, const struct rx_event *event, uint8_t what)
{
    struct rx_stream *stream = event->stream;
    uint8_t name[256] = {0x81, 202};
    uint32_t length = take();
    int well;

    switch (what & 3) {
    case 0:
        well = rx_report(stream, NULL, name, length, rx->now) == 0;
        check(well == (length <= sizeof stream->reporting.name));
        stream->reporting.due = what & 4 ? rx->now + 0.01 : 0;
        stream->reporting.sender = 7;
        stream->reporting.picture.highest = take() << 9;
        stream->reporting.sound.highest = take() << 9;
        stream->reporting.sounds = (what & 8) != 0;
        break;
    case 1:
        stream->tells = what & 8;
        stream->untold = (uint16_t)(stream->arrivals > 0 ? stream->log[0].sequence : take());
        stream->consent.ask_every = what & 4 ? 5 : 0;
        stream->consent.ask_at = 0;
        break;
    case 2:
        length = length < event->length ? length : event->length;
        well = rx_know(stream, event->data, length, take(), take()) == 0;
        check(well == (length <= sizeof stream->head));
        break;
    default:
        memset(stream->consent.transaction, what, STUN_TRANSACTION);
        stream->consent.asked = 1;
    }
}

static void check_report(const struct rx_stream *stream, const uint8_t *data, uint32_t length)
{
    const struct rx_reporting *reporting = &stream->reporting;

    uint32_t blocks = reporting->sounds ? 2 : 1;

    check(length == 8 + 24 * blocks + reporting->name_length + 14);
    check(data[0] == (0x80 | blocks) && data[1] == 201 && get16(data + 2) == 1 + 6 * blocks);
    check(get32(data + 4) == reporting->sender && get32(data + 8) == stream->ssrc);
    check((uint16_t)get32(data + 16) == (uint16_t)(stream->next - 1));
    check(get32(data + 16) == reporting->picture.highest);
    if (blocks == 2) {
        check(get32(data + 32) == stream->sound.ssrc);
        check((uint16_t)get32(data + 40) == (uint16_t)(stream->sound.next - 1));
        check(get32(data + 40) == reporting->sound.highest);
    }
}

static void check_feedback(const struct rx_stream *stream, const uint8_t *data, uint32_t length)
{
    struct feedback told;

    check(stream->tells && stream->arrivals == 0 && length > 14 && length <= RX_FEEDBACK + 14);
    check(feedback_read(&told, data, length - 14) == 0 && told.received == told.told);
    check(told.newest == (uint16_t)(stream->untold - 1));
}
