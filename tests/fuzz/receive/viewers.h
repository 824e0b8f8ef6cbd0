/*
 * Two viewers for fuzz_receive.c: checks, reports and feedback built around the bytes of the
 * input, what Python does with a viewer, and what must hold of each answer. And two of another
 * process, at whose addresses all is handed on; or it is this process that it is handed on to.
 */

#define OF_A_VIEWER 0xA0        /* first byte of such a datagram, and what it is made of */
#define NAME 64
#define SEAL 14                 /* as SRTCP adds it here */
#define LARGEST_OF_THEM 1200
#define FAR_FD 1000
#define OUT_FD 900

struct watcher {
    struct rx_viewer *native;
    double since;
    uint64_t answered;
};

static struct watcher watchers[2];
static struct rx *ours;         /* whose answers are looked at */
static uint64_t answers;
static uint64_t gone;           /* answers of viewers that were dismissed */
static int refuses;             /* the sockets */
static int telling;             /* names have the address of ours behind them */
static struct rx_far *fars[2];
static uint64_t handed[2];
static struct fan_log sent;     /* what one of them was sent */
static struct fan_track tracks[2]; /* of that one */
static struct fan_history *history;
static uint64_t again, allowed; /* packets that were sent again, and that could be */
static uint64_t failures;       /* of SRTP meanwhile */

/* -- places: 0 to 3 of the publishers and the stranger, 4 to 7 of viewers --------------------- */

/* A name, with the address of ours behind it that it wrote to, if ``tells``: its length. */
static uint32_t name_of(uint8_t *name, uint8_t place, int tells)
{
    struct sockaddr_in four = {.sin_family = AF_INET, .sin_port = htons(1000 + place)};
    struct sockaddr_in6 six = {.sin6_family = AF_INET6, .sin6_port = htons(1000 + place)};

    memset(name, 0x5A, NAME);
    if (place < 4 ? place & 1 : place == 4 || place == 7) {
        if (place >= 4)
            four.sin_addr.s_addr = htonl(0x0A000000u + place);
        memcpy(name, &four, sizeof four);
        return (uint32_t)(sizeof four + (tells ? sizeof four.sin_addr : 0));
    }
    if (place >= 4)
        six.sin6_addr.s6_addr[15] = place;
    if (place == 5) {
        six.sin6_addr.s6_addr[0] = 0xFE;
        six.sin6_addr.s6_addr[1] = 0x80;
        six.sin6_scope_id = 2;
    }
    if (place == 6)
        six.sin6_addr.s6_addr[10] = six.sin6_addr.s6_addr[11] = 0xFF;
    memcpy(name, &six, sizeof six);
    return (uint32_t)(sizeof six + (tells ? OURS : 0));
}

/* As the kernel does it. */
static void write_name(struct msghdr *header, uint8_t place)
{
    uint8_t name[NAME];
    size_t room = header->msg_controllen;
    struct in_pktinfo four = {0};
    struct in6_pktinfo six = {0};

    header->msg_namelen = name_of(name, place, 0);
    memcpy(header->msg_name, name, header->msg_namelen);
    header->msg_controllen = 0;
    if (room == 0)
        return;
    header->msg_controllen = room;
    memset(&four.ipi_spec_dst, 0x5A, sizeof four.ipi_spec_dst);
    memset(&six.ipi6_addr, 0x5A, sizeof six.ipi6_addr);
    if (header->msg_namelen == sizeof(struct sockaddr_in))
        put_control(header, IPPROTO_IP, IP_PKTINFO, &four, sizeof four);
    else
        put_control(header, IPPROTO_IPV6, IPV6_PKTINFO, &six, sizeof six);
}

/* As another process hands it on, or as it would not. */
static void wrap(struct mmsghdr *header, uint8_t place)
{
    uint8_t *wrapping = header->msg_hdr.msg_iov->iov_base, lie = take(), name[NAME];

    check(header->msg_hdr.msg_name == NULL && header->msg_hdr.msg_iov->iov_len == WRAPPING);
    memset(wrapping, 0, WRAPPING);
    wrapping[NAMED] = (uint8_t)name_of(name, place, telling);
    memcpy(wrapping, name, NAMED);
    header->msg_len += WRAPPING;
    if (lie >= 0xFC)
        header->msg_len = take() % (WRAPPING + 1);
    else if (lie >= 0xF8)
        wrapping[NAMED] = take();
    header->msg_hdr.msg_namelen = 0;
}

/* -- what they send --------------------------------------------------------------------------- */

static struct rx_viewer *viewer_at(uint8_t place)
{
    for (unsigned at = 0; at < 2; at++) {
        uint8_t key[KEY], name[NAME];

        make_key(key, name, name_of(name, place, telling));
        if (memcmp(key, watchers[at].native->route.key, KEY) == 0)
            return watchers[at].native;
    }
    return watchers[place & 1].native;
}

static size_t attribute(uint8_t *at, uint32_t kind, const void *value, uint32_t size)
{
    put16(at, kind);
    put16(at + 2, size);
    memset(at + 4, 0, (size + 3) & ~3u);
    if (size > 0)
        memcpy(at + 4, value, size);
    return 4 + ((size + 3) & ~3u);
}

/* A request, or the response to a check of ours, as right as ``shape`` asks for. */
static size_t compose_stun(uint8_t *data, const struct rx_consent *consent, uint8_t shape,
                           size_t size)
{
    int response = shape & 1;
    const struct rx_key *key = response ? &consent->theirs : &consent->ours;
    size_t at = STUN_HEADER;

    put16(data, response ? STUN_SUCCESS : STUN_REQUEST);
    put32(data + 4, COOKIE);
    for (unsigned byte = 0; byte < STUN_TRANSACTION; byte++)
        data[8 + byte] = shape & 2 ? consent->transaction[byte] : take();
    if (shape & 4)
        at += attribute(data + at, USERNAME, consent->name, consent->name_length);
    if (shape & 0x80) {
        uint8_t priority[4];

        put32(priority, consent->priority);
        at += attribute(data + at, PRIORITY, priority, sizeof priority);
    }
    size &= ~(size_t)3;
    for (size_t end = at + size; at < end; at++)
        data[at] = take();
    if (shape & 0x10) {
        put16(data + 2, (uint32_t)at + INTEGRITY_SIZE - STUN_HEADER);
        put16(data + at, MESSAGE_INTEGRITY);
        put16(data + at + 2, DIGEST);
        authenticate(key, data, data + 4, (uint32_t)at - 4, data + at + 4);
        at += INTEGRITY_SIZE;
    }
    put16(data + 2, (uint32_t)at - STUN_HEADER);
    if (shape & 0x20) {
        uint8_t sum[4];

        put16(data + 2, (uint32_t)at + 8 - STUN_HEADER);
        put32(sum, checksum(data, (uint32_t)at) ^ XOR_FINGERPRINT);
        at += attribute(data + at, FINGERPRINT, sum, sizeof sum);
    }
    return at;
}

/* For packets of a track of its own, or another; the newest of them are kept. */
static size_t compose_nack(uint8_t *data, const struct rx_viewer *viewer, uint8_t shape)
{
    size_t at = 12, number = shape & 3;

    data[0] = 0x81, data[1] = TRANSPORT_FEEDBACK;
    put16(data + 2, (uint32_t)(NACK_HEAD / 4 + number - (take() < 0xF8)));
    put32(data + 4, 7);
    put32(data + 8, viewer->ssrcs[shape & 1]);
    for (; number > 0; number--, at += 4) {
        put16(data + at, tracks[shape & 1].sequence - (uint32_t)(2 * take()));
        put16(data + at + 2, shape & 0x10 ? take() : 0);
    }
    return at;
}

static size_t compose_report(uint8_t *data, const struct rx_viewer *viewer, uint8_t shape,
                             size_t size)
{
    size_t at = 12;

    if (shape & 0x20) {
        at = compose_nack(data, viewer, shape);
        memset(data + at, 0, SEAL);
        return at + SEAL;
    }
    data[0] = 0x81, data[1] = RECEIVER_REPORT;
    put16(data + 2, LONE_REPORT / 4 - 1);
    put32(data + 4, 7);
    put32(data + 8, viewer->ssrcs[shape & 1]);
    if (shape & 0x80)
        size = LONE_REPORT - 12 + SEAL;
    if (shape & 2)
        data[at++] = 0; /* nothing lost */
    for (size_t end = 12 + size; at < end; at++)
        data[at] = take();
    if (shape & 0x40 && at == LONE_REPORT + SEAL) {
        at = LONE_REPORT + compose_nack(data + LONE_REPORT, viewer, shape);
        memset(data + at, 0, SEAL);
        at += SEAL;
    }
    return at;
}

static size_t compose_feedback(uint8_t *data, uint8_t shape, size_t size)
{
    size_t at = 4, own = 4 + (size & ~(size_t)3);

    data[0] = (uint8_t)(0x80 | (shape & 1 ? TWCC_FORMAT : shape & 31));
    data[1] = (uint8_t)(shape & 2 ? 200 + (shape >> 4 & 7) : TRANSPORT_FEEDBACK);
    put16(data + 2, (uint32_t)own / 4 - 1);
    if (shape & 4 && own >= 20) { /* of packets that it was sent */
        for (; at < 12; at++)
            data[at] = 0;
        put16(data + 12, (uint32_t)(sent.next - 1 - take()));
        put16(data + 14, take());
        at = 16;
    }
    for (; at < own + (shape & 0x80 ? SEAL : 0); at++)
        data[at] = take();
    return at;
}

static size_t compose_viewers(uint8_t *data, size_t room, uint8_t place, unsigned form,
                              uint8_t shape, size_t size)
{
    const struct rx_viewer *viewer = viewer_at(place);
    size_t at = 0;

    if (form == 0 && size > room)
        size = room;
    else if (form != 0 && size > LARGEST_OF_THEM)
        size = LARGEST_OF_THEM;
    if (form == 1)
        return compose_stun(data, &viewer->consent, shape, size);
    if (form == 2)
        return compose_report(data, viewer, shape, size);
    if (form == 3)
        return compose_feedback(data, shape, size);
    for (; at < size; at++)
        data[at] = take();
    return at;
}

static int unprotect_rtcp(void *context, void *packet, int *length)
{
    const uint8_t *data = packet;
    uint8_t last = data[*length - 1];

    (void)context;
    if (*length < 8 + SEAL || last == 0xEE)
        return 7;
    *length += last == 0xED ? 1 : last == 0xEC ? 4 - *length : -SEAL;
    return 0;
}

/* -- what Python does ------------------------------------------------------------------------- */

static void agree(struct rx_viewer *viewer, uint32_t name_length, uint32_t password_length)
{
    uint8_t name[512], password[256];
    uint32_t before = viewer->consent.name_length;
    int told;

    memset(name, 'a' + (int)viewer->number, sizeof name);
    memset(password, 'A' + (int)viewer->number, sizeof password);
    told = rx_agree(&viewer->consent, name, name_length, password, password_length, password,
                    password_length / 2);
    check(told == (name_length <= sizeof viewer->consent.name ? 0 : -1));
    check(viewer->consent.name_length == (told == 0 ? name_length : before));
}

static void hear(struct rx *rx, struct rx_viewer *viewer, uint8_t place)
{
    uint8_t name[NAME];

    check(rx_hear(rx, viewer, name, name_of(name, place, telling)) == 0);
}

static void allow(struct rx_viewer *viewer, uint32_t number)
{
    if (viewer->number == 0)
        for (unsigned at = 0; at < RX_TRACKS; at++)
            viewer->tracks[at] = &tracks[at];
    viewer->again = number;
    allowed += number;
}

static void admit(struct rx *rx, unsigned at)
{
    struct rx_viewer *viewer = rx_admit(rx, NULL, at);

    check(viewer != NULL);
    watchers[at] = (struct watcher){viewer, rx->now, 0};
    viewer->ssrcs[0] = 0x11111111u + at;
    viewer->ssrcs[1] = at == 0 ? 0x22222222u : 0;
    viewer->seal = at == 0 ? SEAL : -1;
    viewer->trailer = at == 0 ? SEAL : 20;
    viewer->consent.priority = 0x7E0000FFu;
    hear(rx, viewer, at == 0 ? 4 : 6);
    agree(viewer, 9, 24);
    viewer->consent.answered = 1;
    viewer->calm = 1;
    viewer->log = at == 0 ? &sent : NULL;
    viewer->look_at = 1;
    allow(viewer, 20);
}

static void dismiss(struct rx *rx, unsigned at)
{
    gone += watchers[at].answered;
    rx_dismiss(rx, watchers[at].native);
}

static void displace(struct rx *rx, unsigned number)
{
    if (fars[number] != NULL)
        rx_displace(rx, fars[number]);
    fars[number] = NULL;
}

/* Something is done to one of another process, or all comes from one from now on. */
static void rule_far(struct rx *rx, uint8_t what)
{
    unsigned number = what >> 7;
    uint8_t name[NAME];
    uint32_t length = name_of(name, what >> 4 & 7, telling);

    if ((what & 7) == 2) {
        rx_unwrap(rx, OUT_FD);
        rx->told = 0; /* such a socket tells nothing */
        return;
    }
    displace(rx, number);
    if ((what & 7) == 1)
        return;
    fars[number] = rx_place(rx, FAR_FD + (int)number, name, length);
    check(fars[number] != NULL);
    handed[number] = 0;
}

static int protect(void *context, void *packet, int *length)
{
    const uint8_t *data = packet;

    check(context == &sent && *length >= HEADER && data[0] >> 6 == 2);
    *length += 16;
    memset((uint8_t *)packet + *length - 16, 0x77, 16);
    failures += data[3] == 0xEE; /* the keys are used up */
    return data[3] == 0xEE;
}

/* What the first of them was sent: packets of all sizes, of which the last ones are kept. */
static void begin_tracks(void)
{
    static const uint8_t bytes[FAN_MAX_PAYLOAD];
    static struct fan_counts counts;
    struct fan_out *out = fan_new(OUT_FD, protect, protect);
    uint16_t lengths[3] = {1, FAN_MAX_PAYLOAD, 0};

    check(out != NULL && (history = fan_history_new(out, &counts)) != NULL);
    for (unsigned at = 0; at < 2; at++) {
        struct fan_track *track = &tracks[at];

        *track = (struct fan_track){.srtp = &sent, .address_length = sizeof(struct sockaddr_in)};
        track->log = at == 0 ? &sent : NULL;
        track->rtx_ssrc = at == 0 ? 5 : 0;
        fan_follow(track, history);
        track->sequence = 65300;
    }
    for (unsigned number = 0; number < 300; number++) {
        uint8_t both[FAN_MAX_PAYLOAD + 200] = {0};

        lengths[0] = (uint16_t)(number % 200);
        fan_keep(history, &(struct fan_frame){number & 1 ? both : bytes, lengths,
                                              1 + (number & 1), number, 1});
        for (unsigned at = 0; at < 2; at++)
            tracks[at].sequence += (uint16_t)(1 + (number & 1));
    }
}

static void end_tracks(void)
{
    struct fan_out *out = history->out;

    fan_history_free(history);
    fan_free(out);
}

static void begin_viewers(struct rx *rx)
{
    again = allowed = failures = 0;
    begin_tracks();
    ours = rx;
    answers = gone = 0;
    refuses = telling = 0;
    fars[0] = fars[1] = NULL;
    sent.next = 500;
    for (unsigned at = 0; at < FAN_REMEMBERED; at++)
        sent.sent[at].at = 0.001 * at;
    for (unsigned at = 0; at < 2; at++)
        admit(rx, at);
}

static void end_viewers(struct rx *rx)
{
    for (unsigned at = 0; at < 2; at++)
        dismiss(rx, at);
    for (unsigned at = 0; at < 2; at++)
        displace(rx, at);
    end_tracks();
}

/* A check of ours, if one is due. */
static void ask_viewer(const struct rx *rx, struct rx_viewer *viewer, uint8_t what)
{
    uint8_t request[STUN_LONGEST_REQUEST], transaction[STUN_TRANSACTION];
    struct stun_message message;
    uint32_t length = 0;

    memset(transaction, what, sizeof transaction);
    viewer->consent.ask_every = 5;
    if (consent_ask(&viewer->consent, transaction, rx->now, request, &length) != CONSENT_ASK)
        return;
    check(length <= sizeof request && stun_read(&message, request, length) == 0);
    check(message.kind == STUN_REQUEST && message.controlled);
    check(message.name_length >= viewer->consent.name_length);
    check(stun_holds(&message, request, &viewer->consent.theirs));
    consent_asked(&viewer->consent, transaction, rx->now, (uint16_t)(what << 8));
    check(viewer->consent.asked && viewer->consent.ask_at >= rx->now + 4);
    check(viewer->consent.ask_at <= rx->now + 6);
}

/* Something is done to one of them. */
static void rule(struct rx *rx, uint8_t what)
{
    static const uint32_t sizes[8] = {500, 0, 1, 1023, 1024, 65535, 65540, 200000};
    unsigned number = what >> 7;
    struct rx_viewer *viewer = watchers[number].native;
    uint8_t name[NAME];

    switch (what & 15) {
    case 0:
        dismiss(rx, number);
        admit(rx, number);
        break;
    case 1:
        hear(rx, viewer, what >> 4 & 7);
        break;
    case 2:
        agree(viewer, 2u * take(), take());
        break;
    case 3:
        for (unsigned byte = 0; byte < STUN_TRANSACTION; byte++)
            viewer->consent.transaction[byte] = (uint8_t)(what + byte);
        viewer->consent.asked = 1;
        viewer->log = what & 0x10 ? NULL : &sent;
        viewer->look_at = rx->now + 0.01 * take();
        break;
    case 4:
        viewer->calm = what >> 4 & 1;
        viewer->consent.priority = what >> 5 & 1 ? 0 : 0x7E0000FFu;
        viewer->consent.answered = what >> 6 & 1;
        ask_viewer(rx, viewer, what);
        break;
    case 5:
        telling = !telling;
        rx->told = telling && !rx->wrapped ? sizeof rx->controls[0].bytes : 0;
        break;
    case 6:
        refuses = !refuses;
        sent.next = sizes[what >> 4 & 7];
        break;
    case 7:
        rx_forget(rx, name, name_of(name, what >> 4 & 7, telling));
        break;
    default:
        rule_far(rx, what);
    }
}

static void on_said(struct rx *rx, const struct rx_event *event)
{
    struct rx_viewer *viewer = event->viewer;
    uint8_t act = take();
    struct feedback told;

    check(viewer->number < 2 && watchers[viewer->number].native == viewer);
    check(event->length >= 8 && event->length < LARGEST && event->data[1] >= 192);
    check(viewer->opened > 0 && viewer->consent.seen == event->arrival && viewer->heard[0] != 0);
    if (feedback_read(&told, event->data, event->length) == 0)
        check(told.received > 0 && told.received <= told.told && told.told <= MOST_STATUSES);
    for (unsigned at = 0; at < RX_TRACKS; at++)
        if (act & 0x40)
            viewer->reports[at].count = 0;
    if (act & 0x20)
        allow(viewer, act & 31);
    if (act & 0x80)
        rule(rx, take());
}

/* -- what must hold --------------------------------------------------------------------------- */

static const struct rx_route *route_of(unsigned who)
{
    return who < 2 ? &watchers[who].native->route : &streams[who - 2]->route;
}

/* Who is at the address that something goes to, and leaves from: a viewer, or behind them a
 * publisher. */
static unsigned whose(const struct msghdr *header)
{
    const struct cmsghdr *control = CMSG_FIRSTHDR(header);
    uint8_t name[NAME], key[KEY];
    uint32_t length = header->msg_namelen;
    unsigned who = 0;

    memcpy(name, header->msg_name, length);
    if (control != NULL) {
        struct in_pktinfo four;
        struct in6_pktinfo six;

        if (length == sizeof(struct sockaddr_in)) {
            check(control->cmsg_level == IPPROTO_IP && control->cmsg_type == IP_PKTINFO);
            check(header->msg_controllen == CMSG_SPACE(sizeof four));
            memcpy(&four, CMSG_DATA(control), sizeof four);
            memcpy(name + length, &four.ipi_spec_dst, sizeof four.ipi_spec_dst);
            length += (uint32_t)sizeof four.ipi_spec_dst;
        } else {
            check(control->cmsg_level == IPPROTO_IPV6 && control->cmsg_type == IPV6_PKTINFO);
            check(header->msg_controllen == CMSG_SPACE(sizeof six));
            memcpy(&six, CMSG_DATA(control), sizeof six);
            memcpy(name + length, &six.ipi6_addr, OURS);
            length += OURS;
        }
    }
    check(make_key(key, name, length) == 0);
    while (who < 5 && (!route_of(who)->routed || memcmp(key, route_of(who)->key, KEY) != 0))
        who++;
    check(who < 5);
    return who;
}

static void check_mapped(const uint8_t *data, const uint8_t *key)
{
    const uint8_t *host, *value = data + STUN_HEADER + 4;
    uint32_t length = host_of(key, &host);

    check(get16(data + STUN_HEADER) == XOR_MAPPED_ADDRESS);
    check(get16(data + STUN_HEADER + 2) == 4 + length && value[1] == 1 + (length > 4));
    check(length == 4 || key[0] == 6);
    for (unsigned byte = 0; byte < 2; byte++)
        check((value[2 + byte] ^ data[4 + byte]) == key[2 + byte]);
    for (unsigned byte = 0; byte < length; byte++)
        check((value[4 + byte] ^ data[4 + byte]) == host[byte]);
}

static void check_handed(unsigned number, const struct msghdr *header)
{
    const struct iovec *parts = header->msg_iov;
    const uint8_t *wrapping = parts[0].iov_base, *data = parts[1].iov_base;
    volatile uint8_t seen = 0;

    check(number < 2 && fars[number] != NULL && fars[number]->route.routed);
    check(header->msg_name == NULL && header->msg_iovlen == 2 && parts[0].iov_len == WRAPPING);
    check(wrapping[NAMED] <= NAMED && data == ours->datagrams[ours->at]);
    check(memcmp(wrapping, ours->names[ours->at], wrapping[NAMED]) == 0);
    for (size_t at = 0; at < parts[1].iov_len; at++)
        seen ^= data[at];
    (void)seen;
    handed[number]++;
}

static ssize_t something_sent(int fd, const struct msghdr *header)
{
    const uint8_t *data = header->msg_iov->iov_base;
    uint32_t length = (uint32_t)header->msg_iov->iov_len;
    unsigned who = whose(header);
    const struct rx_consent *consent =
        who < 2 ? &watchers[who].native->consent : &streams[who - 2]->consent;
    struct stun_message message;

    check(fd == (ours->wrapped ? OUT_FD : -1));
    check(header->msg_iovlen == 1);
    answers++;
    if (data[0] > 3) {
        check(who >= 2);
        if (data[1] == TRANSPORT_FEEDBACK)
            check_feedback(streams[who - 2], data, length);
        else
            check_report(streams[who - 2], data, length);
        published[who - 2].reports++;
        return (ssize_t)length;
    }
    check(stun_read(&message, data, length) == 0);
    check(consent->answered > 0 && consent->name_length > 0);
    if (message.kind == STUN_REQUEST) {
        check(who >= 2 && consent->ask_every > 0 && message.controlled);
        check(length <= STUN_LONGEST_REQUEST && stun_holds(&message, data, &consent->theirs));
        published[who - 2].reports++;
        return (ssize_t)length;
    }
    check(length <= STUN_LONGEST_ANSWER && message.kind == STUN_SUCCESS);
    check(stun_holds(&message, data, &consent->ours));
    check_mapped(data, route_of(who)->key);
    if (who < 2)
        watchers[who].answered++;
    else
        published[who - 2].answered++;
    return (ssize_t)length;
}

static ssize_t fake_sendmsg(int fd, const struct msghdr *header, int flags)
{
    ssize_t length = WRAPPING;

    check(flags & MSG_DONTWAIT);
    if (fd >= FAR_FD)
        check_handed((unsigned)(fd - FAR_FD), header);
    else
        length = something_sent(fd, header);
    errno = EAGAIN;
    return refuses ? -1 : length;
}

static int fake_sendmmsg(int fd, struct mmsghdr *headers, unsigned count, int flags)
{
    check(fd == OUT_FD && flags == 0 && count > 0);
    for (unsigned at = 0; at < count; at++) {
        const struct iovec *part = headers[at].msg_hdr.msg_iov;
        const uint8_t *data = part->iov_base;

        check(headers[at].msg_hdr.msg_iovlen == 1 && part->iov_len <= FAN_MAX_PAYLOAD + 64);
        check(part->iov_len > HEADER + 16 && data[part->iov_len - 1] == 0x77);
    }
    again += count;
    errno = EAGAIN;
    return refuses ? -1 : (int)count;
}

static uint32_t check_route(const struct rx *rx, const struct rx_route *route)
{
    uint32_t where;

    check(!route->routed || find(rx, route->key, &where) == route);
    return route->routed;
}

static void check_routes(const struct rx *rx)
{
    uint32_t routed = 0;

    for (unsigned at = 0; at < 3; at++)
        routed += check_route(rx, &streams[at]->route);
    for (unsigned at = 0; at < 2; at++) {
        routed += check_route(rx, &watchers[at].native->route);
        if (fars[at] != NULL)
            routed += check_route(rx, &fars[at]->route);
    }
    check(routed == rx->routes);
}

static void check_viewers(const struct rx *rx)
{
    uint64_t answered = gone;

    check(again <= allowed + MOST_ASKED * failures);
    check(watchers[0].native->again <= allowed);
    for (unsigned at = 0; at < 2; at++) {
        const struct watcher *watcher = &watchers[at];
        const struct rx_viewer *viewer = watcher->native;

        check(viewer->consent.checks == watcher->answered);
        check((double)watcher->answered <= 50.001 * (1 + rx->now - watcher->since));
        check(viewer->consent.name_length <= sizeof viewer->consent.name);
        check(viewer->consent.answers >= 0 && viewer->consent.answers <= ANSWERS_A_SECOND);
        check(viewer->consent.seen <= rx->now && viewer->consent.checked <= rx->now);
        answered += watcher->answered;
    }
    for (unsigned at = 0; at < 2; at++)
        check(fars[at] == NULL || (fars[at]->passed + fars[at]->dropped == handed[at] &&
                                   fars[at]->seen <= rx->now));
    for (unsigned at = 0; at < 3; at++) {
        const struct rx_consent *consent = &streams[at]->consent;

        check(consent->checks == published[at].answered);
        check((double)consent->checks <= 50.001 * (1 + rx->now - published[at].since));
        check(consent->seen <= rx->now && consent->answers <= ANSWERS_A_SECOND);
        answered += published[at].answered + published[at].reports;
    }
    check(answered == answers && rx->counts.sent + rx->counts.unsent == answers);
    check_routes(rx);
}
