/*
 * The recorded events of one group on their way to a node: subscribe, confirm, live, loss, catch-up, failover,
 * a master that hangs and wakes up after it was replaced.
 *
 * The real code is internal/pubsub. Each guard below is one decision of that code; with -DNO_GUARD it is left
 * out. The README of this folder says which property then breaks and which test of the real code shows it.
 */

#ifndef EVENTS
#define EVENTS 3
#endif
#ifndef LOSSES
#define LOSSES 2      /* how often a link breaks */
#endif
#define LENGTH 4      /* entries of a history: each event, and one twice */
#define NONE   255

/*
 * Server 0 is the master, server 1 its replica until the failover. A history holds events, which stand for
 * their idempotency keys too, and their positions: each server counts on from the last one it has, server 0
 * in even numbers, server 1 in odd ones, so that their clocks differ and no two positions are equal.
 */
typedef History {
  byte length;
  byte event[LENGTH];
  byte position[LENGTH]
}
History history[2];
byte master = 0;       /* where commands go */
byte replicated = 0;   /* entries of server 0 that server 1 has */
bool hung = false;     /* server 0 executes nothing */
byte waiting = 0;      /* an event whose command waits in the socket of server 0 */
bool awake = false;    /* server 0 hung, was replaced, and is back */

/* The link. */
chan link = [LENGTH] of { byte, byte };  /* event, position */
bool subscribed = false;
byte server;           /* that it leads to */

/* What the node's connections have had. */
byte had = 0;          /* bit per event */
byte newest = 0;       /* the last event, in the order of publication */
byte late = 0;         /* bit per event that came after a later one */
byte excused = 0;      /* bit per event that a gap was told for */
byte begin = NONE;     /* position before the first event that they are owed */

byte losses = 0;
byte i, last;          /* of inlines, inside atomic steps only */
bool found;

inline contains(s, e) {
  found = false;
  i = 0;
  do
  :: i < history[s].length ->
    found = found || history[s].event[i] == e;
    i++
  :: else -> break
  od;
  i = 0
}

/* record.v1.lua: an event is recorded once under its key, and published to the subscribers. */
inline record(s, e) {
  contains(s, e);
  if
  :: !found ->
    i = history[s].length;
    if
    :: i > 0 -> last = history[s].position[i - 1]
    :: else
    fi;
    if
    :: last = last + 1 + (last + 1 + s) % 2
    :: s == 0 -> last = last + 3 + (last + 1 + s) % 2 /* its clock is ahead */
    fi;
    history[s].event[i] = e;
    history[s].position[i] = last;
    history[s].length++;
    if
    :: subscribed && server == s -> link!e,last
    :: else
    fi
  :: else
  fi;
  i = 0;
  last = 0;
  found = false
}

/* Publishes the events in order, each again until a master has acknowledged it. */
proctype Publisher() {
  byte e = 1;
end:
  do
  :: e <= EVENTS ->
    if
    :: atomic { master == 0 && !hung -> record(0, e) }
      if
      :: e++
      :: skip /* the acknowledgment is lost: again, perhaps elsewhere */
      fi
    :: atomic { master == 0 && hung && waiting == 0 -> waiting = e }
    :: atomic { master == 1 -> record(1, e); e++ }
    fi
  :: e > EVENTS -> break
  od
}

proctype Replication() {
end:
  do
  :: atomic { master == 0 && !hung && replicated < history[0].length ->
      history[1].event[replicated] = history[0].event[replicated];
      history[1].position[replicated] = history[0].position[replicated];
      replicated++;
      history[1].length = replicated
    }
  od
}

/* Server 0 crashes or hangs and is replaced; if it hung, it wakes up. */
proctype Failover() {
  if
  :: skip /* or not */
  :: atomic { hung = true }
    atomic { master = 1 }
    if
    :: atomic { hung = false; awake = true;
        if
        :: waiting != 0 -> record(0, waiting)
        :: true -> skip /* LATE: a clock may prevent it, but nothing must depend on clocks */
        fi;
        waiting = 0
      }
    :: skip
    fi
  fi
}

inline gap() {
  i = 0;
  do
  :: i < history[master].length ->
    excused = excused | (1 << history[master].event[i]);
    i++
  :: else -> break
  od;
  i = 0
}

inline newestPosition(p) {
  p = 0;
  i = history[master].length;
  if
  :: i > 0 -> p = history[master].position[i - 1]
  :: else
  fi;
  i = 0
}

inline deliver(e) {
  assert(!(had & (1 << e)));        /* once */
  late = (e < newest -> late | (1 << e) : late);
  had = had | (1 << e);
  newest = (e < newest -> newest : e)
}

/*
 * take is what the node does with an event from the link: it drops what catching up has handed over already
 * (passed) and what was shown under another position.
 */
inline take(e, p) {
  if
#ifndef NO_PASSED
  :: p <= passed -> skip
#else
  :: false -> skip
#endif
#ifndef NO_KEY
  :: p > passed && (had & (1 << e)) -> skip
#else
  :: false -> skip
#endif
  :: else ->
    passed = 0; /* positions come in order, so nothing known follows */
    mark = p;
    deliver(e)
  fi
}

/* read is catching up's question: what follows the mark? If the mark is not in the history, nobody can say. */
inline read() {
  n = 0;
  page.length = 0;
  found = (mark == 0);
  do
  :: n < history[master].length ->
    if
    :: history[master].position[n] == mark -> found = true
    :: else
    fi;
    page.event[n] = history[master].event[n];
    page.position[n] = history[master].position[n];
    n++
  :: else -> break
  od;
  page.length = n;
  n = 0;
  do
  :: n < page.length && page.position[n] <= mark -> n++
  :: else -> break
  od;
#ifndef NO_GAP
  if
  :: !found -> gap()
  :: else
  fi;
#endif
  found = false
}

inline lose() {
  subscribed = false;
  do
  :: nempty(link) -> link?_,_
  :: empty(link) -> break
  od
}

/* One link after the other. */
proctype Node() {
  byte mark = NONE, passed = 0, e, p, n;
  bool missed = false;
  History page;
connect:
#ifndef NO_LOCATE_BEFORE
  /* Before the first SUBSCRIBE: where the history ends now. */
  if
  :: atomic { mark == NONE && !(master == 0 && hung) ->
      newestPosition(mark)
    }
  :: mark != NONE -> skip
  fi;
#endif
#ifdef NO_READ_AFTER_CONFIRM
  atomic { !(master == 0 && hung) -> read() }
#endif
  /* SUBSCRIBE is confirmed. A proxy that keeps connections may still lead to the server that was replaced. */
  if
  :: atomic { !(master == 0 && hung) -> server = master; subscribed = true;
      if
      :: begin == NONE -> newestPosition(begin)
      :: else
      fi
    }
  :: atomic { awake -> server = 0; subscribed = true;
      if
      :: begin == NONE -> newestPosition(begin)
      :: else
      fi
    }
  fi;
#ifdef NO_LOCATE_BEFORE
  if
  :: atomic { mark == NONE && !(master == 0 && hung) ->
      newestPosition(mark)
    }
  :: mark != NONE -> skip
  fi;
#endif
  if
  :: !missed -> goto live
  :: else
  fi;
  atomic { missed = false; passed = 0 }
  /* Catch up: what the history has after the mark. The link brings events meanwhile; they are held in it. */
#ifndef NO_READ_AFTER_CONFIRM
  atomic { !(master == 0 && hung) -> read() }
#endif
  do
  :: atomic { n < page.length ->
      if
      :: page.position[n] > passed ->
        passed = page.position[n];
        if
        :: !(had & (1 << page.event[n])) -> mark = passed; e = page.event[n]; deliver(e); e = 0
        :: else -> mark = passed
        fi
      :: else
      fi;
      n++
    }
#ifdef NO_HOLD
  :: atomic { nempty(link) && n < page.length -> link?e,p; take(e, p); e = 0; p = 0 }
#endif
  :: atomic { n >= page.length -> n = 0; page.length = 0; break }
  :: atomic { losses < LOSSES -> losses++; lose(); n = 0; page.length = 0; missed = true; goto connect }
  od;
live:
  do
  :: atomic { nempty(link) -> link?e,p; take(e, p); e = 0; p = 0 }
  :: atomic { losses < LOSSES -> losses++; lose(); passed = 0;
#ifndef NO_CATCH_UP
      missed = true;
#endif
      goto connect
    }
#ifndef NO_CANARY
  :: atomic { server != master -> /* what is published does not come back over the link */
      lose(); passed = 0; missed = true; goto connect
    }
#endif
  :: atomic { timeout ->
      /*
       * Nothing is under way: whatever the master has was delivered in order, or a gap was told. What Redis
       * lost in the failover may have been shown, too late even: no history tells what its place was.
       */
      n = 0;
      do
      :: n < history[master].length ->
        e = 1 << history[master].event[n];
        assert(history[master].position[n] <= begin || (had & e) || (excused & e));
        assert(!(late & e) || (excused & e));
        n++
      :: else -> break
      od;
      goto done
    }
  od;
done:
  skip
}

init { atomic { run Publisher(); run Replication(); run Failover(); run Node() } }
