/*
 * Coverage-guided fuzzing (libFuzzer) of native/receive.c: datagrams of three publishers and
 * a stranger, with what Python does between them. SRTP is a stand-in that opens or refuses.
 *
 * ``make fuzz`` builds it so. With REPLAY it is a program of its own for any compiler, which
 * runs the files that it is given, each as it is and changed at random some hundred times.
 */

#define _GNU_SOURCE
#include <errno.h>
#include <sanitizer/asan_interface.h>
#include <sys/socket.h>

struct mmsghdr;
static int fake_recvmmsg(int fd, struct mmsghdr *headers, unsigned count, int flags,
                         struct timespec *timeout);
#define recvmmsg fake_recvmmsg
#include "../../../relay/protocols/webrtc/native/receive.c"
#undef recvmmsg

static const uint8_t *input;
static size_t left;
static struct rx_stream *streams[3];

static uint8_t take(void)
{
    if (left == 0)
        return 0;
    left--;
    return *input++;
}

static void address_of(struct sockaddr_in6 *six, uint8_t who)
{
    memset(six, 0, sizeof *six);
    if (who & 1) {
        struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons(1000 + who)};

        memcpy(six, &four, sizeof four);
    } else {
        six->sin6_family = AF_INET6;
        six->sin6_port = htons(1000 + who);
    }
}

static int fake_recvmmsg(int fd, struct mmsghdr *headers, unsigned count, int flags,
                         struct timespec *timeout)
{
    unsigned number = 0;

    (void)fd, (void)flags, (void)timeout;
    while (number < count && left > 0) {
        uint8_t *data = headers[number].msg_hdr.msg_iov->iov_base;
        uint8_t who = take() & 3, shape = take();
        struct rx_stream *stream = who < 3 ? streams[who] : NULL;
        size_t size = take() * (shape & 0x40 ? 8u : 1u), at = 0;
        size_t room = headers[number].msg_hdr.msg_iov->iov_len;

        ASAN_UNPOISON_MEMORY_REGION(data, room);
        if (shape & 0x80 && stream != NULL) { /* what the stream waits for, to get deeper */
            uint8_t head[12] = {(uint8_t)(0x80 | (shape & 0x10)), 0};

            head[1] = (uint8_t)(stream->payload_type | (shape & 1 ? 0x80 : 0));
            head[2] = (uint8_t)(stream->next >> 8);
            head[3] = (uint8_t)(stream->next + (shape & 2 ? 1 : 0));
            head[4] = (uint8_t)(stream->timestamp >> 24);
            head[5] = (uint8_t)(stream->timestamp >> 16);
            head[6] = (uint8_t)(stream->timestamp >> 8);
            head[7] = (uint8_t)(stream->timestamp + (shape & 4 ? 1 : 0));
            head[8] = (uint8_t)(stream->ssrc >> 24), head[9] = (uint8_t)(stream->ssrc >> 16);
            head[10] = (uint8_t)(stream->ssrc >> 8), head[11] = (uint8_t)stream->ssrc;
            memcpy(data, head, sizeof head);
            at = sizeof head;
        }
        for (size_t end = at + size; at < end && at < room; at++)
            data[at] = take();
        ASAN_POISON_MEMORY_REGION(data + at, room - at); /* to see reads beyond the end */
        headers[number].msg_len = (unsigned)at;
        address_of(headers[number].msg_hdr.msg_name, who);
        headers[number].msg_hdr.msg_namelen =
            who & 1 ? sizeof(struct sockaddr_in) : sizeof(struct sockaddr_in6);
        number++;
        if (shape & 8)
            break;
    }
    return (int)number;
}

static int unprotect(void *context, void *packet, int *length)
{
    uint8_t *data = packet;

    (void)context;
    if (*length < 12 || data[*length - 1] == 0xEE)
        return 7;
    *length -= *length >= 28 ? 16 : 0;
    return 0;
}

static void check(int condition)
{
    if (!condition)
        __builtin_trap();
}

static void resume(struct rx *rx, struct rx_stream *stream, uint8_t who)
{
    struct sockaddr_in6 six;
    socklen_t size = who & 1 ? sizeof(struct sockaddr_in) : sizeof six;

    address_of(&six, who);
    rx_resume(rx, stream, (uint8_t *)&six, size, 0x01020304u + stream->number,
              (uint16_t)(0xFFF0 + take()));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct rx *rx = rx_new(-1, unprotect, 42, 100, 400);
    struct rx_event event;
    volatile uint8_t seen = 0;
    double now = 0;

    input = data, left = size;
    check(rx != NULL);
    for (uint32_t at = 0; at < 3; at++) {
        streams[at] = rx_open(rx, NULL, 96, at == 1 ? 0 : 3, at);
        check(streams[at] != NULL);
        resume(rx, streams[at], (uint8_t)at);
    }
    while (left > 0) {
        int kind;

        now += 0.001 * take();
        rx_read(rx, now);
        while ((kind = rx_next(rx, &event)) != RX_IDLE) {
            uint8_t act = take();

            if (kind == RX_DATAGRAM || kind == RX_UNIT)
                for (uint32_t at = 0; at < event.length; at++)
                    seen ^= event.data[at];
            if (kind == RX_DATAGRAM) {
                struct rx_stream *other = streams[act % 3];

                if (act & 0x20)
                    resume(rx, other, act & 3);
                if (act & 0x40)
                    rx_forget(rx, event.address, event.address_length);
                continue;
            }
            check(event.stream->arrivals <= RX_LOG);
            if (kind == RX_UNIT) {
                check(event.stream->joined > 0 && event.stream->packets == 0);
                if (act & 1)
                    event.stream->arrivals = 0;
            } else if (kind == RX_YIELD) {
                check(!event.stream->active);
                for (uint32_t at = 0; at < event.stream->packets; at++) {
                    const struct rx_packet *packet = &event.stream->train[at];

                    check(packet->start + packet->length <= event.stream->used);
                    for (uint32_t byte = 0; byte < packet->length; byte++)
                        seen ^= event.stream->bytes[packet->start + byte];
                }
                rx_clear(event.stream);
                if (act & 1)
                    resume(rx, event.stream, (uint8_t)event.stream->number);
                if (act == 0x77) {
                    uint32_t number = event.stream->number;

                    rx_close(rx, streams[number]);
                    streams[number] = rx_open(rx, NULL, 96, 3, number);
                    check(streams[number] != NULL);
                }
            } else if (act & 1) {
                event.stream->arrivals = 0;
            }
        }
    }
    for (uint32_t at = 0; at < 3; at++)
        rx_close(rx, streams[at]);
    check(rx->routes == 0);
    ASAN_UNPOISON_MEMORY_REGION(rx->datagrams, sizeof rx->datagrams);
    rx_free(rx);
    return 0;
}

#ifdef REPLAY
#include <stdio.h>

#define LARGEST_INPUT 16384
#define CHANGED 100

static uint64_t dice = 88172645463325252u;

static uint32_t roll(uint32_t sides)
{
    dice ^= dice << 13;
    dice ^= dice >> 7;
    dice ^= dice << 17;
    return (uint32_t)(dice >> 32) % sides;
}

int main(int count, char **names)
{
    static uint8_t whole[LARGEST_INPUT];
    int runs = 0;

    for (int at = 1; at < count; at++) {
        FILE *file = fopen(names[at], "rb");
        size_t size;

        check(file != NULL);
        size = fread(whole, 1, sizeof whole, file);
        fclose(file);
        for (int turn = 0; turn <= CHANGED; turn++, runs++) {
            /* Exactly as large as the input is, so that a read beyond it is seen. */
            uint8_t *changed = malloc(size + 1);
            size_t length = turn == 0 ? size : roll((uint32_t)size + 1);

            check(changed != NULL);
            memcpy(changed, whole, size);
            for (uint32_t byte = 0; turn > 0 && length > 0 && byte < 1 + length / 40; byte++)
                changed[roll((uint32_t)length)] = (uint8_t)roll(256);
            LLVMFuzzerTestOneInput(changed, length);
            free(changed);
        }
    }
    printf("%d\n", runs);
    return 0;
}
#endif
