/*
 * The lease of one connection: handshake, announcement, re-check, renewal, revocation.
 *
 * The real code is internal/lease. Each guard below is one decision of that code; with -DNO_GUARD it is left
 * out. The README of this folder says which property then breaks and which test of the real code shows it.
 *
 * Without -DCLOCK nothing but announcements and what follows from them ends a connection, so the model shows
 * that an announced revocation always does. With -DCLOCK the stores may fail to answer, announcements may
 * all be lost, and the deadline has to hold.
 */

#define DEADLINE  3 /* ticks */
#define HORIZON   6 /* ticks */
#define RECENT    2 /* announcements that a node remembers; 1,024 in the code */
#define NEVER   100

#ifdef CLOCK
#define TRIES 1
#else
#define TRIES 2
#endif

mtype = { REVOKED, OTHER, MISSED };

/* The record in Redis. */
bool revoked = false;
byte expires = NEVER;
byte now = 0;
byte lastValid = 0;    /* when the record was last valid */

#define VALID (!revoked && now < expires)

/* The connection. */
bool open = false;
bool expired = false;  /* it was ended because its session seemed to be over */
byte confirmed = 0;    /* when the confirmation it rests on was asked for */
byte known = NEVER;    /* the end of the session, as the node knows it */

/* The node. */
chan control = [3] of { mtype };
bool listening = true;
byte heard = 0;        /* announcements so far */
mtype recent[RECENT];
bool due = false;      /* the connection is to be asked about */
byte outages = 0, failures = 0;

inline announce(m) {
  atomic {
    if
    :: listening && nfull(control) -> control!m
    :: !listening -> skip /* Redis has no subscriber: lost */
    fi
  }
}

inline remember(m) {
  recent[heard % RECENT] = m;
  heard++
}

inline record() {
  atomic {
    if
    :: VALID -> lastValid = now
    :: else
    fi;
    revoked = true
  }
}

/* The application ends the session. */
proctype Application() {
#ifndef NO_RECORD_FIRST
  record();
  announce(REVOKED)
#else
  announce(REVOKED);
  record()
#endif
}

/* Announcements about other users. */
proctype Others() {
  announce(OTHER);
  announce(OTHER)
}

/* The node hears the control channel, and loses it up to once. */
proctype Control() {
  mtype m;
end:
  do
  :: atomic { control?[REVOKED] || control?[OTHER] ->
      control?m;
#ifndef NO_REMEMBER
      remember(m);
#endif
      if
      :: m == REVOKED -> open = false
      :: else
      fi
    }
  :: atomic { outages < 1 && listening -> /* the link breaks; what it carried is lost */
      outages++;
      listening = false;
      do
      :: nempty(control) -> control?m
      :: empty(control) -> break
      od
    }
  :: atomic { outages < 1 -> outages++ } /* or never breaks */
  :: atomic { !listening ->
#ifdef NO_MISSED_AFTER_SUBSCRIBE
      due = true; remember(MISSED)
    }
    atomic { true ->
#endif
      listening = true }
#if !defined(NO_MISSED) && !defined(NO_MISSED_AFTER_SUBSCRIBE)
      atomic {
        due = true
#ifndef NO_MISSED_REMEMBERED
        ; remember(MISSED)
#endif
      }
#endif
  od
}

/* A browser connects, up to TRIES times. */
proctype Handshake() {
  byte mark, at, i, tries = 0, until;
  bool again, refused;
  do
  :: tries < TRIES && !open ->
    tries++;
    atomic { mark = heard; at = now }
    /* The session store answers. */
    atomic {
      refused = !VALID;
      until = expires
    }
#ifdef NO_MARK_BEFORE_QUESTION
    atomic { mark = heard; at = now }
#endif
    atomic { /* Keeper.Add */
      again = false;
#ifndef NO_OVERFLOW
      if
      :: heard - mark > RECENT -> again = true; mark = heard - RECENT
      :: else
      fi;
#else
      if
      :: heard - mark > RECENT -> mark = heard - RECENT
      :: else
      fi;
#endif
      i = mark;
      do
      :: i < heard ->
        if
        :: recent[i % RECENT] == REVOKED -> refused = true
        :: recent[i % RECENT] == MISSED -> again = true
        :: else
        fi;
        i++
      :: i >= heard -> break
      od;
      if
      :: !refused -> open = true; confirmed = at; known = until; due = due || again
      :: else
      fi;
      refused = false; again = false; i = 0; mark = 0; at = 0; until = 0
    }
  :: break
  od
}

/* The node asks the stores about the connection. */
proctype Check() {
  byte asked, until;
  bool valid;
end:
  do
  :: atomic { due && !open -> due = false } /* nobody to ask about */
  :: atomic { due && open -> due = false; asked = now }
    if
    :: atomic { valid = VALID; until = expires }
       atomic {
         if
         :: valid && open ->
#ifndef NO_ASKED_AT
           confirmed = asked;
#else
           confirmed = now;
#endif
           known = until
         :: !valid && open ->
           open = false
         :: else
         fi;
         asked = 0; until = 0; valid = false
       }
#ifdef CLOCK
    :: atomic { failures < 2 -> failures++; due = true } /* nobody could say */
#endif
    fi
  od
}

#ifdef CLOCK
/* The application renews the session before its end. */
proctype Renewal() {
  if
  :: atomic { now < 3 -> expires = 3 } /* a session with an end */
  :: skip
  fi;
  if
  :: atomic { now < expires -> expires = NEVER }
  :: skip
  fi
}

/* Time passes. Whatever is due at a tick is done in it. */
proctype Clock() {
  do
  :: atomic { now < HORIZON ->
      if
      :: VALID -> lastValid = now
      :: else
      fi;
      now++;
      if
      :: open && now >= known ->
#ifndef NO_DOUBT
        due = true /* Keeper.Doubt: the end is asked about before it is acted on */
#else
        open = false;
        expired = true
#endif
      :: else
      fi;
#ifndef NO_DEADLINE
      if
      :: open && now - confirmed >= DEADLINE -> open = false
      :: else
      fi;
#endif
      if
      :: now % 2 == 0 -> due = true /* the period */
      :: else
      fi;
      assert(!expired || !VALID);
      assert(!open || now - lastValid <= DEADLINE)
    }
  :: now == HORIZON -> break
  od
}
#endif

/* Once nothing is under way, an announced revocation has ended the connection. */
proctype Settled() {
  atomic { timeout -> assert(!(open && revoked)) }
}

init {
  atomic {
    run Application();
    run Control();
    run Handshake();
    run Check();
#ifdef CLOCK
    run Renewal();
    run Clock();
#else
    run Others();
    run Settled();
#endif
  }
}
