/* What Python sees of receiving: cffi reads everything between the two marks. */
#ifndef RELAY_RECEIVE_H
#define RELAY_RECEIVE_H

#include <stddef.h>
#include <stdint.h>

#define RX_LOG 256              /* arrivals of one publisher that wait to be told */
#define RX_TRACKS 2             /* of a viewer: picture and sound */
#define RX_FEEDBACK 768         /* bytes that rx_feedback writes at most */

/* -- begin */
typedef int (*rx_unprotect)(void *context, void *packet, int *length);

struct rx_doors {
    rx_unprotect rtp;
    rx_unprotect rtcp;
    rx_unprotect protect_rtcp;  /* the same form */
};

/* What rx_next returns. */
enum {
    RX_IDLE,                    /* all that was read is dealt with */
    RX_DATAGRAM,                /* not the common case: as it came */
    RX_YIELD,                   /* the train of a stream goes to Python; it is active no more */
    RX_UNIT,                    /* a whole access unit */
    RX_NOTED,                   /* arrivals wait to be told: for long, or many */
    RX_SAID,                    /* RTCP of a viewer, opened: not the common case */
    RX_PLAIN               /* a whole access unit that needs no judging: see rx_stream, rx_sound */
};

/* What an access unit holds; see h264_payload.Assembled. */
enum {
    RX_PARAMETERS = 1,
    RX_PICTURE = 2,
    RX_KEYFRAME = 4,
    RX_STARTS = 8,
    RX_ARRIVALS = 16,           /* arrivals wait to be told */
    RX_MORE = 32,               /* of RX_PLAIN: rx_next has not told all yet */
    RX_SOUND = 64               /* of RX_PLAIN: it is one packet of Opus */
};

struct rx_arrival {
    double at;
    uint32_t sequence;          /* transport-wide */
};

struct rx_packet {              /* one of a train: opened, in order, of one timestamp */
    double arrival;
    uint32_t start;             /* in ``bytes`` */
    uint32_t length;
};

/* Where something comes from: a publisher's video, a viewer, or a viewer of another process.
 * Only native code writes it. */
struct rx_route {
    uint8_t key[40];            /* their address, and ours */
    uint8_t routed;
    uint8_t kind;
    uint64_t limited;           /* dropped unread: too many a second */
    double tokens;
    double refilled;
};

struct rx_key {                 /* HMAC-SHA1: the two states behind the padded key */
    uint32_t inner[5];
    uint32_t outer[5];
};

/* Consent (RFC 7675) on one path: checks of theirs are answered, ours leave and their answers are
 * noted. Of STUN the rest goes to Python. What Python sets stands first, what it reads behind it. */
struct rx_consent {
    uint8_t asked;              /* a check of ours is under way: the one below */
    uint8_t transaction[12];
    uint8_t former[12];         /* of the last that native code sent and nobody answered in time:
                                   its answer counts as well */
    double ask_every;           /* seconds between two checks of ours, about; 0: Python asks */
    double ask_at;              /* when the next one is due */
    uint64_t tie_breaker;
    uint32_t priority;          /* of its path */
    uint32_t name_length;       /* 0: checks go to Python */
    uint8_t name[280];          /* USERNAME of its checks */
    struct rx_key ours;
    struct rx_key theirs;
    double answered;            /* when it last answered a check of ours; 0: never */
    double seen;                /* the last sign of life; 0: none */
    double checked;             /* its last check; 0: none */
    double nominated;           /* its last one that nominates; 0: none */
    double answers;             /* tokens */
    double answers_at;
    uint64_t checks;            /* answered */
    uint64_t limited;           /* checks that were not: too many a second */
};

/* What a report tells of picture or sound. Python goes on from ``highest`` where it reports itself
 * again. */
struct rx_block {
    uint32_t lost;              /* packets, in all; none since */
    uint32_t highest;           /* sequence number, extended, that was told last */
    uint32_t last_report;       /* of theirs the middle of the NTP time; 0: none */
    double last_report_at;
};

/* What a publisher is told of its stream once a second, while all is in order: a receiver report
 * with the name behind it, and a check of ours where one is due; and in between transport-wide
 * feedback. */
struct rx_reporting {
    double due;                 /* when the next one is; 0: Python reports */
    void *srtp;                 /* srtp_t that seals them */
    uint32_t sender;            /* our SSRC */
    struct rx_block picture;
    struct rx_block sound;
    uint8_t sounds;             /* there is a block about sound as well */
    uint32_t name_length;
    uint8_t name[64];           /* a whole packet: SDES with our CNAME */
};

struct rx_jitter {
    double ticks;               /* of its clock (RFC 3550 A.8), once a timestamp */
    double at;                  /* arrival of the first packet of the last timestamp */
    uint32_t timestamp;         /* that one */
};

/* A publisher's sound. While ``flows`` is set and the stream is active, packets in order stay here
 * and each is told as a unit. Python sets all of it, and looks before it goes on itself. */
struct rx_sound {
    uint8_t flows;
    uint8_t payload_type;
    uint16_t next;              /* sequence number that is to come */
    uint32_t ssrc;
    uint32_t timestamp;         /* of the last packet */
    int64_t ticks;              /* the same on a line that does not run over, 48 kHz */
    int64_t offset;             /* from there to the publisher's line, 90 kHz */
    double heard;               /* arrival of the last packet */
    double tokens;              /* units that may yet be passed on, see reception.UNITS */
    double filled_at;
    uint64_t packets;           /* since Python last looked */
    uint64_t octets;            /* of their payloads */
    struct rx_jitter jitter;
};

/* One publisher: its video, and its sound beside it. Python reads it; only native code writes it. */
struct rx_stream {
    struct rx_route route;
    void *srtp;                 /* srtp_t */
    uint32_t number;            /* Python's own */
    uint32_t ssrc;
    uint32_t timestamp;         /* of the train */
    uint16_t next;              /* sequence number that is to come */
    uint8_t payload_type;
    uint8_t extension;          /* of the transport-wide sequence number; 0: none */
    uint8_t active;             /* packets in order stay here; else all go to Python */
    uint32_t batch;             /* the last one that went on with its picture */
    uint64_t joined;            /* packets of whole access units, since Python last looked */
    uint64_t octets;            /* of their payloads */
    struct rx_jitter jitter;
    uint64_t refused;           /* SRTP failed */
    /* While ``plain`` is set the picture before is shown, and whatever follows it in order and in
     * time goes on from here. Python sets it, and looks before it goes on itself. */
    uint8_t plain;
    uint32_t shown;             /* timestamp of the last picture that was passed on */
    int64_t pts;                /* of that, on the publisher's line */
    double shown_at;            /* its arrival */
    double unit_tokens;         /* pictures that may yet be passed on, see reception.UNITS */
    double units_filled_at;
    uint64_t pictures;          /* passed on since Python last looked */
    double heard;               /* arrival of the last packet that passed SRTP; 0: none */
    double others;              /* tokens of packets of any SSRC but these two: see budget.py */
    double others_at;
    uint8_t tells;              /* feedback about the log goes on from these two: */
    uint8_t feedbacks;          /* number of the next one */
    uint16_t untold;            /* transport-wide number that is to be told next */
    uint8_t *bytes;
    uint32_t used;
    uint32_t room;
    uint32_t packets;
    uint32_t packet_room;
    struct rx_packet *train;
    uint32_t arrivals;
    struct rx_sound sound;
    /* What most pictures do not touch. */
    /* What a key frame begins with that lacks nothing and says nothing new: ``head``, and
     * then an octet of which the bits in ``mask`` are ``value``. */
    uint32_t head_length;       /* 0: each key frame is judged */
    uint8_t head[512];
    uint8_t mask;
    uint8_t value;
    double keyframe_at;         /* arrival of the last one passed on since Python last looked;
                                   0: none */
    struct rx_consent consent;
    struct rx_reporting reporting;
    uint32_t address_length;
    uint8_t address[44];        /* where it is, as in an event */
    double look_at[2];          /* until then sender reports are not even opened: those about this
                                   stream, and those about another */
    struct rx_arrival log[256];
};

/* The last receiver report about a track, of those that tell of no loss. */
struct rx_report {
    double at;
    uint32_t count;             /* since Python last looked */
    uint32_t highest;           /* sequence number, extended */
    uint32_t jitter;
    uint32_t last_report;
    uint32_t delay;
};

/* A connected viewer. What Python sets stands first, what it reads behind it. */
struct rx_viewer {
    struct rx_route route;
    struct rx_consent consent;
    void *srtp;                 /* srtp_t */
    uint32_t number;            /* Python's own */
    uint32_t ssrcs[2];          /* of its tracks; 0: none */
    int32_t seal;               /* bytes that SRTCP adds */
    uint32_t trailer;           /* of these, from the index on */
    void *log;                  /* struct fan_log; NULL: what it was sent is not known here */
    double look_at;             /* until then transport-wide feedback goes no further: where the
                                   log is known while it says that all is well, else at all */
    double open_at;             /* until then such feedback is not even opened */
    void *tracks[2];            /* struct fan_track, of these ssrcs; NULL: Python sends again */
    uint32_t again;             /* packets that may be sent again natively, until Python looks */
    uint8_t calm;               /* reports without a loss are kept */
    uint64_t opened;            /* packets that passed SRTP */
    uint64_t refused;           /* packets that did not */
    double base;                /* least delay of late, between two clocks */
    double base_before;
    double base_until;          /* 0: there is none yet */
    uint8_t heard[24];          /* the last that passed: 8 bytes of its head, and its trailer */
    struct rx_report reports[2];
};

/* A viewer of another process: whatever it sends is handed on. */
struct rx_far {
    struct rx_route route;
    int32_t fd;                 /* of a SOCK_SEQPACKET to that process */
    double seen;                /* the last datagram; 0: none */
    uint64_t passed;
    uint64_t dropped;           /* the process had no room */
    uint32_t batch;             /* that a picture of it began in, and has not ended */
};

struct rx_counts {
    uint64_t received;          /* datagrams read */
    uint64_t sent;              /* answers to checks */
    uint64_t unsent;
    uint64_t strangers;         /* dropped: for nobody, see rx_guard */
};

struct rx_event {
    const uint8_t *data;        /* a datagram, or an access unit in Annex B; good until the
                                   next call */
    uint32_t length;
    const uint8_t *address;     /* of a datagram: struct sockaddr, and behind it the one of our
                                   addresses that it came to, where the socket tells it */
    uint32_t address_length;
    struct rx_stream *stream;   /* of the others */
    uint32_t number;            /* of that */
    struct rx_viewer *viewer;   /* of RX_SAID */
    double arrival;             /* of a unit: of its last packet */
    int64_t pts;                /* of RX_PLAIN */
    uint32_t timestamp;
    uint32_t flags;
    uint32_t read;              /* of rx_wake: datagrams of its first batch */
};

struct rx;

/* What one publisher, or viewer, may have dealt with: see budget.py. */
struct rx_limits {
    double rate;                /* packets a second */
    double burst;               /* and at once */
    double units;               /* pictures a second, and at once */
};

/* NULL: no memory. */
struct rx *rx_new(int fd, struct rx_doors doors, uint64_t seed, struct rx_limits limits);
void rx_free(struct rx *rx);
size_t rx_stream_size(void);
/* Since Python last set them to nothing. */
struct rx_counts *rx_count(struct rx *rx);

/* A descriptor that is readable when rx_read is to be called, or -1: the socket itself is to be
 * waited for. Until rx_unwatch the rest of a picture that has begun is waited for a little. */
int rx_watch(struct rx *rx);
void rx_unwatch(struct rx *rx);

/* What is read was handed on by another process, which has the socket too; answers to checks
 * leave by ``out``, the socket itself. */
void rx_unwrap(struct rx *rx, int out);

/* Read a batch from the socket: how many datagrams came. ``now``: CLOCK_MONOTONIC, seconds. */
uint32_t rx_read(struct rx *rx, double now);
/* Take one datagram that somebody else has read; ``rx_next`` deals with it. */
void rx_put(struct rx *rx, const uint8_t *data, uint32_t length, const uint8_t *address,
            uint32_t address_length, double now);
/* Deal with the next of them. */
int rx_next(struct rx *rx, struct rx_event *event);
/* Both in one: ``rx_read``, and the first thing to tell of what came. ``rx_next`` then reads more
 * batches where all else has taken long: who sends to many for long would else hear nobody. */
int rx_wake(struct rx *rx, double now, struct rx_event *event);

/* NULL: no memory. */
struct rx_stream *rx_open(struct rx *rx, void *srtp, uint8_t payload_type, uint8_t extension,
                          uint32_t number);
void rx_close(struct rx *rx, struct rx_stream *stream);
/* Addresses are as in an event.
 * Nothing is missing: from ``next`` on, packets of that address and SSRC stay here. 0, or -1
 * when there is no room for the address. */
int rx_resume(struct rx *rx, struct rx_stream *stream, const uint8_t *address, uint32_t length,
              uint32_t ssrc, uint16_t next);
/* Python has dealt with the train, or takes it now. */
void rx_pause(struct rx_stream *stream);
void rx_clear(struct rx_stream *stream);

/* Key frames that begin so are not judged; 0, or -1: too long. */
int rx_know(struct rx_stream *stream, const uint8_t *head, uint32_t length, uint8_t mask,
            uint8_t value);
/* Report natively, once a second from ``now`` on; 0, or -1: the name is too long. */
int rx_report(struct rx_stream *stream, void *srtp, const uint8_t *name, uint32_t name_length,
              double now);

/* Write transport-wide feedback about all that is in the log, and empty it, where that is one run
 * of numbers without a hole, in order. Returns its length, or 0: Python is to look at the log. */
uint32_t rx_feedback(struct rx_stream *stream, uint32_t sender, uint8_t *out);

/* NULL: no memory. */
struct rx_viewer *rx_admit(struct rx *rx, void *srtp, uint32_t number);
void rx_dismiss(struct rx *rx, struct rx_viewer *viewer);
/* From now on it is heard at that address; 0, or -1 when there is no room for one. */
int rx_hear(struct rx *rx, struct rx_viewer *viewer, const uint8_t *address, uint32_t length);
/* The credentials in use there: the USERNAME of its checks, both passwords. 0, or -1: too long. */
int rx_agree(struct rx_consent *consent, const uint8_t *name, uint32_t name_length,
             const uint8_t *ours, uint32_t ours_length, const uint8_t *theirs,
             uint32_t theirs_length);

/* Hand what comes from that address on; NULL: no room. */
struct rx_far *rx_place(struct rx *rx, int fd, const uint8_t *address, uint32_t length);
void rx_displace(struct rx *rx, struct rx_far *far);

/* What Python knows. */
enum {
    RX_ADDRESS,                 /* as in an event: somebody may be heard from there */
    RX_NAME,                    /* checks in that name are somebody's */
    RX_TRANSACTION              /* of a check of ours */
};

/* Know one of these, each once, or (``known``: 0) no more. */
void rx_know_of(struct rx *rx, uint32_t what, const uint8_t *bytes, uint32_t length, int known);
/* From now on whatever comes from an address, in a name or in a transaction that is not known is
 * dropped; of media, which may be of a peer that has moved, what is too much. */
void rx_guard(struct rx *rx);

/* That address is nobody's any more. */
void rx_forget(struct rx *rx, const uint8_t *address, uint32_t length);
/* -- end */

#endif
