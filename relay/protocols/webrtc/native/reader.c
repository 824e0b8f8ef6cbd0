/*
 * A turn of the receiving loop, as a Python function: what receive.c has read goes to whom it is
 * for, with no step of Python's own in between while all is well.
 *
 * ``native_receive.NativeReceiver.reader`` does the same in Python, where this is not built.
 */

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <structmember.h>

#include "receive.h"

#include <string.h>
#include <time.h>

#define SLOTS 6                /* of an access unit */

typedef int (*waking)(struct rx *rx, double now, struct rx_event *event);
typedef int (*following)(struct rx *rx, struct rx_event *event);

typedef struct {
    PyObject_HEAD
    struct rx *rx;
    struct rx_event *event;
    waking wake;
    following next;
    PyObject *shows;            /* number of a stream: who takes its units */
    PyTypeObject *unit;         /* of an access unit */
    Py_ssize_t slots[SLOTS];    /* where in one its attributes are, in the order of NAMES; the
                                 * first is 0 where that is not known */
    PyObject *codec;            /* of a picture */
    PyObject *opus;
    PyObject *deal;             /* takes everything else, from this event on */
    PyObject *note;             /* is told that arrivals wait */
    PyObject *clock;            /* seconds; None: CLOCK_MONOTONIC */
} Turn;

static PyTypeObject *turn_type;

static int turn_traverse(PyObject *self, visitproc visit, void *arg)
{
    Turn *turn = (Turn *)self;

    Py_VISIT(Py_TYPE(self));
    Py_VISIT(turn->shows);
    Py_VISIT(turn->unit);
    Py_VISIT(turn->codec);
    Py_VISIT(turn->opus);
    Py_VISIT(turn->deal);
    Py_VISIT(turn->note);
    Py_VISIT(turn->clock);
    return 0;
}

static int turn_clear(PyObject *self)
{
    Turn *turn = (Turn *)self;

    Py_CLEAR(turn->shows);
    Py_CLEAR(turn->unit);
    Py_CLEAR(turn->codec);
    Py_CLEAR(turn->opus);
    Py_CLEAR(turn->deal);
    Py_CLEAR(turn->note);
    Py_CLEAR(turn->clock);
    return 0;
}

static void turn_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    freefunc release = (freefunc)PyType_GetSlot(type, Py_tp_free);

    PyObject_GC_UnTrack(self);
    turn_clear(self);
    release(self);
    Py_DECREF(type);
}

static int now_of(const Turn *turn, double *now)
{
    struct timespec clock;
    PyObject *told;

    if (turn->clock == Py_None) {
        clock_gettime(CLOCK_MONOTONIC, &clock);
        *now = (double)clock.tv_sec + 1e-9 * (double)clock.tv_nsec;
        return 0;
    }
    told = PyObject_CallObject(turn->clock, NULL);
    if (told == NULL)
        return -1;
    *now = PyFloat_AsDouble(told);
    Py_DECREF(told);
    return PyErr_Occurred() ? -1 : 0;
}

/* As AccessUnit.__init__ has them: calling that takes about half of what handing a picture on
 * does. */
static const char *const NAMES[SLOTS] = {"codec", "payload", "pts", "arrival", "keyframe",
                                         "is_video"};

/* Where the attributes are, if the type has just these slots and no more. */
static void find_slots(Turn *turn)
{
    Py_ssize_t found[SLOTS];

    turn->slots[0] = 0;
    if (turn->unit->tp_basicsize != (Py_ssize_t)(sizeof(PyObject) + SLOTS * sizeof(PyObject *)) ||
        turn->unit->tp_itemsize != 0 || turn->unit->tp_dictoffset != 0)
        return;
    for (unsigned at = 0; at < SLOTS; at++) {
        PyObject *slot = PyObject_GetAttrString((PyObject *)turn->unit, NAMES[at]);
        int fits = slot != NULL && Py_TYPE(slot) == &PyMemberDescr_Type &&
                   ((PyMemberDescrObject *)slot)->d_member->type == T_OBJECT_EX;

        if (fits)
            found[at] = ((PyMemberDescrObject *)slot)->d_member->offset;
        Py_XDECREF(slot);
        PyErr_Clear();
        if (!fits)
            return;
    }
    memcpy(turn->slots, found, sizeof found);
}

/* The access unit of the event; NULL with an exception. */
static PyObject *make_unit(const Turn *turn, const struct rx_event *event)
{
    PyObject *keyframe = event->flags & RX_KEYFRAME ? Py_True : Py_False, *unit = NULL;
    int sounds = (event->flags & RX_SOUND) != 0;
    PyObject *values[SLOTS] = {
        Py_NewRef(sounds ? turn->opus : turn->codec),
        PyBytes_FromStringAndSize((const char *)event->data, (Py_ssize_t)event->length),
        PyLong_FromLongLong(event->pts),
        PyFloat_FromDouble(event->arrival),
        Py_NewRef(keyframe),
        Py_NewRef(sounds ? Py_False : Py_True),
    };

    if (values[1] != NULL && values[2] != NULL && values[3] != NULL) {
        if (turn->slots[0] == 0)
            unit = PyObject_CallFunctionObjArgs((PyObject *)turn->unit, values[0], values[1],
                                                values[2], values[3], values[4], NULL);
        else if ((unit = turn->unit->tp_alloc(turn->unit, 0)) != NULL)
            for (unsigned at = 0; at < SLOTS; at++)
                *(PyObject **)((char *)unit + turn->slots[at]) = Py_NewRef(values[at]);
    }
    for (unsigned at = 0; at < SLOTS; at++)
        Py_XDECREF(values[at]);
    return unit;
}

/* Hand the unit of the event on; 0, or -1 with an exception. */
static int show(Turn *turn, uint32_t number)
{
    const struct rx_event *event = turn->event;
    PyObject *key = PyLong_FromUnsignedLong(number);
    PyObject *to = key == NULL ? NULL : PyDict_GetItemWithError(turn->shows, key);
    PyObject *unit, *done;

    Py_XDECREF(key);
    if (to == NULL) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_KeyError, "a unit of nobody's");
        return -1;
    }
    Py_INCREF(to); /* its unit may end it */
    unit = make_unit(turn, event);
    done = unit == NULL ? NULL : PyObject_CallOneArg(to, unit);
    Py_XDECREF(unit);
    Py_XDECREF(done);
    Py_DECREF(to);
    return done == NULL ? -1 : 0;
}

static PyObject *turn_read(PyObject *self, PyObject *Py_UNUSED(nothing))
{
    Turn *turn = (Turn *)self;
    struct rx_event *event = turn->event;
    double now;
    int kind;
    uint32_t count;
    PyObject *done;

    if (turn->deal == NULL || now_of(turn, &now) != 0)
        return NULL;
    kind = turn->wake(turn->rx, now, event);
    count = event->read;
    while (kind == RX_PLAIN) {
        uint32_t number = event->number, flags = event->flags;
        double arrival = event->arrival;

        if (show(turn, number) != 0)
            return NULL;
        if (flags & RX_ARRIVALS) {
            done = PyObject_CallFunction(turn->note, "Id", number, arrival);
            if (done == NULL)
                return NULL;
            Py_DECREF(done);
        }
        if (!(flags & RX_MORE))
            return PyLong_FromUnsignedLong(count);
        kind = turn->next(turn->rx, event);
    }
    if (kind != RX_IDLE) {
        done = PyObject_CallFunction(turn->deal, "i", kind);
        if (done == NULL)
            return NULL;
        Py_DECREF(done);
    }
    return PyLong_FromUnsignedLong(count);
}

static PyMethodDef read_method = {"read", turn_read, METH_NOARGS, NULL};

/* reader(rx, event, wake, next, shows, unit, codec, opus, deal, note, clock): the first four are
 * addresses; what they are of is held by ``deal``. */
static PyObject *make_reader(PyObject *Py_UNUSED(module), PyObject *args)
{
    unsigned long long rx, event, wake, next;
    PyObject *shows, *codec, *opus, *deal, *note, *clock, *read;
    PyTypeObject *unit;
    allocfunc allocate = (allocfunc)PyType_GetSlot(turn_type, Py_tp_alloc);
    Turn *turn;

    if (!PyArg_ParseTuple(args, "KKKKOO!OOOOO", &rx, &event, &wake, &next, &shows, &PyType_Type,
                          &unit, &codec, &opus, &deal, &note, &clock))
        return NULL;
    turn = (Turn *)allocate(turn_type, 0);
    if (turn == NULL)
        return NULL;
    turn->rx = (struct rx *)(uintptr_t)rx;
    turn->event = (struct rx_event *)(uintptr_t)event;
    turn->wake = (waking)(uintptr_t)wake;
    turn->next = (following)(uintptr_t)next;
    turn->shows = Py_NewRef(shows);
    turn->unit = (PyTypeObject *)Py_NewRef(unit);
    find_slots(turn);
    turn->codec = Py_NewRef(codec);
    turn->opus = Py_NewRef(opus);
    turn->deal = Py_NewRef(deal);
    turn->note = Py_NewRef(note);
    turn->clock = Py_NewRef(clock);
    read = PyCFunction_NewEx(&read_method, (PyObject *)turn, NULL);
    Py_DECREF(turn);
    return read;
}

static PyMethodDef methods[] = {{"reader", make_reader, METH_VARARGS, NULL}, {NULL}};

static PyType_Slot turn_slots[] = {
    {Py_tp_traverse, turn_traverse},
    {Py_tp_clear, turn_clear},
    {Py_tp_dealloc, turn_dealloc},
    {0, NULL},
};

static PyType_Spec turn_spec = {
    .name = "relay.protocols.webrtc._reader.Turn",
    .basicsize = sizeof(Turn),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = turn_slots,
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "_reader", .m_size = -1, .m_methods = methods};

PyMODINIT_FUNC PyInit__reader(void)
{
    PyObject *module = PyModule_Create(&definition);

    if (module == NULL)
        return NULL;
    turn_type = (PyTypeObject *)PyType_FromSpec(&turn_spec);
    if (turn_type == NULL ||
        PyModule_AddIntConstant(module, "EVENT_SIZE", (long)sizeof(struct rx_event)) != 0) {
        Py_DECREF(module);
        return NULL;
    }
    return module;
}
