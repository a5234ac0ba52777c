// Built from web/client by `make client`; change it there.

// src/position.ts
var POSITION = /^\d{1,20}-\d{1,20}$/;
function isPosition(id) {
  return typeof id === "string" && POSITION.test(id);
}
function after(a, b) {
  return b === void 0 || sortable(a) > sortable(b);
}
function sortable(position) {
  return position.split("-").map((number) => number.padStart(20, "0")).join();
}

// src/hub.ts
var ANSWERS = ["subscribed", "unsubscribed", "error"];
var SMALL_FRAME = 4096;
var AGAIN_MS = 5e3;
var Hub = class {
  // of this connection
  /** resumes says whether the server can send what was missed, as far as known: streams ask before the welcome. */
  constructor(link, tell, resumes = false) {
    this.link = link;
    this.tell = tell;
    this.resumes = resumes;
    this.groups = /* @__PURE__ */ new Map();
    this.#asked = /* @__PURE__ */ new Map();
    // by group, the oldest first
    this.#outgoing = [];
    // leave together, at the end of the task
    this.#room = 0;
    // bytes that the last of them may still grow by
    this.#questions = /* @__PURE__ */ new Map();
  }
  #asked;
  #outgoing;
  #room;
  #questions;
  /** A connection is open, and nothing has been asked on it yet. */
  attach(welcome) {
    this.welcome = welcome;
    for (const [name, group] of this.groups) {
      group.live = false;
      this.greet(name, group);
    }
    this.tell({ frame: welcome });
    this.tell({ status: { state: "open", transport: this.link.streams ? "sse" : "websocket" } });
  }
  /** What a stream is to ask for. */
  opening(_all) {
    return {};
  }
  /** Positions mean nothing any more: they are of another organization's histories. */
  forget() {
    for (const group of this.groups.values()) group.last = void 0;
  }
  /** The connection is gone; tabs keep what they want. */
  detach() {
    this.welcome = void 0;
    this.#outgoing = [];
    for (const group of this.groups.values()) group.again ||= group.live;
    for (const [name, questions] of this.#asked) {
      if (!this.groups.has(name)) this.#unsubscribed(name, questions.flatMap(({ tabs }) => tabs));
    }
    this.#asked.clear();
    this.#questions.clear();
  }
  /** A tab asks for something. */
  request(tab, request) {
    if ("send" in request) {
      this.#flush();
      const sent = this.link.send(request.send);
      if (sent && request.ask) this.#questions.set(request.ask, tab);
      return sent;
    }
    if ("want" in request) this.#want(tab, request.want, request);
    else this.#drop(tab, request["drop"]);
    return true;
  }
  /** A tab is gone. */
  leave(tab) {
    for (const name of this.groups.keys()) this.#drop(tab, name);
  }
  /** The server said something other than welcome. */
  frame(frame) {
    if (frame.type === "error" && Array.isArray(frame.groups)) {
      const { groups, ...rest } = frame;
      for (const group2 of groups) this.frame({ ...rest, group: group2 });
      return;
    }
    const asker = this.#questions.get(frame.request_id);
    if (asker) {
      this.#questions.delete(frame.request_id);
      this.tell({ frame }, [asker]);
      return;
    }
    const name = frame.group;
    const group = this.groups.get(name);
    if (ANSWERS.includes(frame.type) && this.#asked.has(name)) {
      this.#answered(frame, name, group);
      return;
    }
    if (group && frame.type === "gap") group.gap = true;
    this.tell({ frame });
  }
  /** An event came. */
  event(event) {
    const group = this.groups.get(event.group);
    if (group && isPosition(event.id) && (group.gap || after(event.id, group.last))) {
      group.gap = false;
      group.last = event.id;
    }
    this.tell({ event });
  }
  /** Asks for a group on a new connection. */
  greet(name, group) {
    this.#ask([{ name, group, tabs: group.tabs, token: group.token }]);
  }
  #want(tab, name, { token, last, again, presence }) {
    const group = this.groups.get(name) ?? { live: false, tabs: /* @__PURE__ */ new Set() };
    this.groups.set(name, group);
    group.tabs.add(tab);
    group.token = token ?? group.token;
    group.presence ||= presence;
    if (!group.live) {
      if (last && (!group.last || after(group.last, last))) group.last = last;
      group.again ||= again;
    } else if (again && (!last || last !== group.last)) {
      this.tell({ frame: { type: "gap", group: name, after: last, before: group.last } }, [tab]);
    }
    if (this.welcome) this.#ask([{ name, group, tabs: [tab], token }]);
  }
  #drop(tab, name) {
    const group = this.groups.get(name);
    if (!group?.tabs.delete(tab)) return;
    if (!group.tabs.size) {
      this.groups.delete(name);
      if (this.welcome && (group.live || this.#asked.has(name))) {
        this.write("unsubscribe", name, {});
        this.await(name, [tab], false);
        return;
      }
    }
    this.#unsubscribed(name, [tab]);
  }
  #unsubscribed(group, tabs) {
    this.tell({ frame: { type: "unsubscribed", group } }, tabs);
  }
  /** Subscribes, and asks for what was missed if the server has it. */
  #ask(questions) {
    for (const { name, group, tabs, token } of questions) {
      const asking = this.asking(group, token);
      this.write("subscribe", name, asking);
      this.await(name, tabs, Boolean(asking.after));
    }
  }
  asking({ again, last, presence }, token) {
    return { after: this.resumes && again ? last : void 0, token, presence };
  }
  /** Adds the name to the last frame that is about to leave, or to a new one if it does not fit. */
  write(type, name, asking) {
    if (!this.#outgoing.length) queueMicrotask(() => this.#flush());
    const size = JSON.stringify([name, asking]).length;
    let last = this.#outgoing.at(-1);
    if (last?.type !== type || last.groups.has(name) || size > this.#room) {
      this.#outgoing.push(last = { type, groups: /* @__PURE__ */ new Map() });
      this.#room = (this.welcome.max_frame ?? SMALL_FRAME) - 64;
    }
    last.groups.set(name, asking);
    this.#room -= size;
  }
  #flush() {
    for (const { type, groups } of this.#outgoing.splice(0)) {
      this.link.send({ type, groups: type === "subscribe" ? Object.fromEntries(groups) : [...groups.keys()] });
    }
  }
  await(name, tabs, resume) {
    this.#asked.set(name, [...this.#asked.get(name) ?? [], { tabs: [...tabs], resume }]);
  }
  /** The answer to the oldest question about a group goes to those who asked it. */
  #answered(frame, name, group) {
    const questions = this.#asked.get(name);
    const { tabs, resume } = questions.shift();
    if (!questions.length) this.#asked.delete(name);
    this.tell({ frame }, tabs);
    if (frame.code === "unavailable") setTimeout(() => this.#retry(name, tabs), AGAIN_MS * (1 + Math.random()));
    if (frame.code === "presence_refused") delete group?.presence;
    if (frame.type !== "subscribed" || !group) return;
    if (group.again && !resume) this.tell({ frame: { type: "gap", group: name, after: group.last } });
    group.again = false;
    group.live = true;
  }
  #retry(name, asked) {
    const group = this.groups.get(name);
    const tabs = asked.filter((tab) => group?.tabs.has(tab));
    if (group && tabs.length && this.welcome) this.#ask([{ name, group, tabs, token: group.token }]);
  }
};

// src/pulse.ts
var Pulse = class {
  constructor(quiet, patience, ask, silent) {
    this.quiet = quiet;
    this.patience = patience;
    this.ask = ask;
    this.silent = silent;
  }
  #timer;
  /** Something came from the other side. */
  heard() {
    this.stop();
    this.#timer = setTimeout(() => this.probe(), this.quiet);
  }
  /** Asks for a sign of life now. */
  probe() {
    this.stop();
    this.#timer = setTimeout(this.silent, this.patience);
    this.ask();
  }
  stop() {
    clearTimeout(this.#timer);
  }
};

// src/retry.ts
var FIRST_MS = 500;
var PROMPT_MS = 250;
var LONGEST_MS = 36e5;
var RETRY = [1001, 1006, 1011, 1012, 1013, 4408, 4409, 4413, 4429];
function plan(code, reason, failures, maxWait) {
  const { retry, retry_after_ms: ms } = parse(reason);
  const once = code === 4401 && retry === "once";
  if (!once && !RETRY.includes(code)) return void 0;
  const slot = ms > 0 ? Math.min(LONGEST_MS, Number(ms)) : 0;
  const prompt = once || code === 4409;
  const most = prompt ? PROMPT_MS : Math.min(maxWait, FIRST_MS * 2 ** failures);
  return {
    wait: Math.min(LONGEST_MS, slot + Math.random() * most),
    slot,
    once,
    failed: !prompt && !(code === 1012 && slot)
  };
}
function parse(reason) {
  try {
    return JSON.parse(reason) ?? {};
  } catch {
    return {};
  }
}

// src/link.ts
var PROTOCOL = "orgcast.v1";
var HANDSHAKE_MS = 15e3;
var STEADY_MS = 1e4;
var Link = class {
  // grows when the owner starts or stops, so that late answers to check are ignored
  /** blocked says that only streams open here, as far as is known. */
  constructor(url, options, owner, blocked = false) {
    this.url = url;
    this.options = options;
    this.owner = owner;
    this.blocked = blocked;
    this.protocols = PROTOCOL;
    // from the welcome to the end of a connection
    this.#openedAt = 0;
    this.#failures = 0;
    this.#slotAt = 0;
    // what ends the client if this attempt does not open
    this.#life = 0;
  }
  #timer;
  // ends the handshake or the wait
  #pulse;
  #openedAt;
  #failures;
  #slotAt;
  // before this time no attempt is made
  #last;
  #life;
  /** Whether this is a stream, which says in its request all that it will ever say. */
  get streams() {
    return false;
  }
  /** Connects now, whatever went before. */
  start() {
    this.#life++;
    this.#failures = 0;
    this.#last = void 0;
    this.open();
  }
  /** Closes without a word to the owner. */
  stop() {
    this.#life++;
    this.drop();
  }
  /**
   * Sends the frame, and reports whether there was a connection to send it on. A stream sends it by
   * asking again for all that its owner wants by then.
   */
  send(frame) {
    if (this.#pulse) this.write(frame);
    return Boolean(this.#pulse);
  }
  /**
   * The network may have changed, or someone looks: trusts nothing. hopeful says that an attempt may
   * succeed now: then it waits no longer, except for a slot that the server assigned.
   */
  nudge(hopeful) {
    if (this.#pulse) this.streams || this.#pulse.probe();
    else if (hopeful && this.#timer && !this.socket && Date.now() >= this.#slotAt) this.open();
  }
  webSocket() {
    return new (this.options.WebSocket ?? WebSocket)(this.url, this.protocols);
  }
  open() {
    this.begin();
    this.use(this.webSocket());
  }
  /** An attempt begins. */
  begin() {
    this.drop();
    this.#timer = setTimeout(() => this.end(1006, ""), HANDSHAKE_MS);
  }
  use(socket) {
    this.socket = socket;
    socket.onmessage = ({ data }) => {
      if (socket === this.socket) this.receive(data);
    };
    socket.onclose = ({ code, reason }) => {
      if (socket === this.socket) this.end(code, reason);
    };
    this.owner.status({ state: "connecting" });
  }
  write(frame) {
    this.socket.send(JSON.stringify(frame));
  }
  receive(data) {
    this.#pulse?.heard();
    let frame;
    try {
      frame = JSON.parse(String(data));
    } catch {
      return;
    }
    if (isEnvelope(frame)) this.owner.event(frame);
    else if (frame?.type === "welcome") this.opened(frame);
    else if (typeof frame?.type === "string" && frame.type !== "pong") this.owner.frame(frame);
  }
  opened(welcome) {
    const { pingAfter = welcome.ping_ms || 25e3, answerWithin = 1e4 } = this.options;
    clearTimeout(this.#timer);
    this.#openedAt = Date.now();
    this.#last = void 0;
    this.#pulse = new Pulse(this.streams ? Math.max(pingAfter, welcome.ping_ms) : pingAfter, answerWithin, () => this.streams || this.send({ type: "ping" }), () => this.end(4408, "silent"));
    this.#pulse.heard();
    this.owner.welcome(welcome);
  }
  /** Told when a connection ends; missed says that it found no server. Reports whether another is tried at once. */
  detours(_missed) {
    return false;
  }
  end(code, reason) {
    const opened = this.#openedAt;
    if (code === 4409 || opened && Date.now() - opened >= STEADY_MS) this.#failures = 0;
    if (this.detours(!opened && code === 1006)) return;
    this.drop();
    const next = this.#last ? void 0 : plan(code, reason, this.#failures, this.options.maxWait ?? 3e4);
    if (!next) {
      this.owner.status({ state: "closed", ...this.#last ?? { code, reason } });
      return;
    }
    if (next.failed) this.#failures++;
    if (next.once) this.#last = { code, reason };
    const now = Date.now();
    this.#slotAt = now + next.slot;
    this.#timer = setTimeout(() => this.open(), next.wait);
    this.owner.status({ state: "waiting", retryAt: now + next.wait, code, reason });
    if (!opened) void this.#check(code, reason);
  }
  async #check(code, reason) {
    const life = this.#life;
    const go = await Promise.resolve().then(this.options.check).catch(() => true);
    if (go !== false || life !== this.#life || this.#openedAt) return;
    this.stop();
    this.owner.status({ state: "closed", code, reason });
  }
  drop() {
    const { socket } = this;
    this.socket = void 0;
    clearTimeout(this.#timer);
    this.#timer = void 0;
    this.#pulse?.stop();
    this.#pulse = void 0;
    this.#openedAt = 0;
    socket?.close(1e3);
  }
};
function isEnvelope(frame) {
  const { type, event, group } = Object(frame);
  return type === void 0 && typeof event?.type === "string" && typeof group === "string";
}

// src/alone.ts
var Alone = class {
  // of the last welcome
  constructor(url, options, owner, parts) {
    this.url = url;
    this.options = options;
    this.owner = owner;
    this.parts = parts;
    this.id = Math.random().toString(36).slice(2);
    // from the start on
    this.state = { state: "connecting" };
    this.#identity = "";
  }
  #identity;
  /** Whether other tabs may be using the same socket. */
  get shared() {
    return false;
  }
  start() {
    this.stop();
    this.connect();
  }
  stop() {
    this.link?.stop();
  }
  request(request) {
    return Boolean(this.hub?.request(this.id, request));
  }
  nudge(hopeful) {
    this.link.nudge(hopeful);
  }
  // From the link.
  status(status) {
    this.hub.detach();
    this.tell({ status });
  }
  welcome(welcome) {
    if (!this.owner.knows(welcome)) {
      this.link.stop();
      this.status({ state: "closed", code: 4401, reason: "identity" });
      return;
    }
    const identity = JSON.stringify(["orgcast", this.url, this.options.share, welcome.organization_id, welcome.user_id]);
    if (this.#identity && identity !== this.#identity) {
      this.owner.forget();
      this.hub.forget();
    }
    this.#identity = identity;
    this.hub.resumes = welcome.resume;
    this.attach(welcome, identity);
  }
  opening() {
    return this.hub.opening(true);
  }
  frame(frame) {
    this.hub.frame(frame);
  }
  event(envelope) {
    this.hub.event(envelope);
  }
  connect() {
    this.link = new (this.parts.Link ?? Link)(this.url, this.options, this, this.link?.blocked);
    this.hub = new (this.parts.Hub ?? Hub)(this.link, (news, to) => this.tell(news, to && [...to]), this.hub?.resumes);
    for (const [want, wanted] of this.owner.wants()) this.hub.request(this.id, { want, ...wanted });
    this.link.start();
  }
  /** The connection belongs to the identity, which is a text. */
  attach(welcome, _identity) {
    this.hub.attach(welcome);
  }
  tell(news, to) {
    if ("status" in news) this.state = news.status;
    if (!to || to.includes(this.id)) this.owner.news(news);
  }
};

// src/group.ts
var Group = class {
  /** Use `client.group`. */
  constructor(client, name, end) {
    this.name = name;
    this.#client = client;
    this.#end = end;
  }
  #client;
  #end;
  #ends = [];
  /** Who is here; undefined until the server has said so, and without `presence: true`. */
  get presence() {
    return this.#client.presence(this.name);
  }
  /** Calls the listener with each event of the type, and with each of the gateway's own frames, that is about this group. */
  on(type, listener) {
    const end = this.#client.on(type, (frame, source) => {
      if ((source ?? frame).group === this.name) listener(frame, source);
    });
    this.#ends.push(end);
    return end;
  }
  /** Reads a page of what was recorded for this group. See `client.history`. */
  history(question) {
    return this.#client.history(this.name, question);
  }
  /** Shows a state of this user to all who see the presence of the group. See `client.setPresence`. */
  setPresence(state) {
    this.#client.setPresence(this.name, state);
  }
  /** Leaves the group, and ends what `on` began. */
  leave() {
    for (const end of this.#ends.splice(0)) end();
    this.#end();
  }
};

// src/client.ts
var QUEUE = 32;
var QUEUED_LENGTH = 2048;
var MOST_TOKENS = 2;
var GROUP = /^[\w.-]{1,100}$/;
var CONTROL = ["welcome", "subscribed", "unsubscribed", "gap", "error", "pong", "presence", "presence_change", "history", "token_accepted"];
var Client = class {
  #listeners = /* @__PURE__ */ new Map();
  #groups = /* @__PURE__ */ new Map();
  #share;
  #inert;
  #options;
  #pages;
  #fold;
  #queue = [];
  // until the first connection is open
  #page;
  // ends what #watchPage began
  #status = { state: "connecting" };
  #welcome;
  #user;
  // whom this client is for, from the first welcome on
  /** Use `connect`. */
  constructor(url, options, parts) {
    const base = globalThis.location?.href;
    this.#inert = !base && !options.WebSocket;
    const absolute = new URL(url, this.#inert ? "http://localhost" : base);
    absolute.protocol = absolute.protocol.replace("http", "ws");
    this.#options = options;
    const owner = {
      news: (news) => this.#news(news),
      wants: () => [...this.#groups].filter(([, { token, fetchToken }]) => token || !fetchToken).map(([name, { token, last, live, again, presence }]) => [name, { token, last, again: live || again, presence }]),
      forget: () => {
        for (const mine of this.#groups.values()) mine.last = mine.present = void 0;
      },
      knows: ({ user_id }) => options.anyUser || (this.#user ??= user_id) === user_id
    };
    this.#share = new (options.share && parts.Share || Alone)(absolute.href, options, owner, parts);
    this.#pages = parts.Pages && new parts.Pages(this.#share);
    this.#fold = parts.fold;
    if (!options.idle) this.#start();
  }
  /** Where the connection stands. */
  get status() {
    return this.#status;
  }
  /** Who the server takes this browser for; undefined until it has said so. */
  get welcome() {
    return this.#welcome;
  }
  /**
   * Calls the listener with each frame or event of the type; for an event also with where it comes from.
   * `'*'` stands for all that the gateway does not say itself: every event, whatever its type, and every
   * frame of a consumer. Returns a function that ends it.
   */
  on(type, listener) {
    return this.#listen(type, listener);
  }
  /** Calls the listener with each change of the status. Returns a function that ends it. */
  onStatus(listener) {
    return this.#listen("", listener);
  }
  /**
   * Joins a group, now and after every reconnect, until `leave`. Each call returns a handle of its own;
   * the subscription lasts as long as the last of them. Throws a TypeError for what cannot be the name
   * of a group.
   */
  group(name, { token, presence } = {}) {
    const mine = this.#mine(name);
    mine.presence ||= presence;
    if (typeof token === "function") mine.fetchToken = token;
    const group = new Group(this, name, () => {
      if (this.#groups.get(name) === mine && mine.handles.delete(group) && !mine.handles.size) this.unsubscribe(name);
    });
    mine.handles.add(group);
    if (mine.fetchToken && typeof token !== "string" && !mine.token) void this.#renew(name, mine);
    else this.subscribe(name, token === mine.fetchToken ? void 0 : token);
    return group;
  }
  /**
   * Subscribes to a group, now and after every reconnect, until `unsubscribe` or a refusal. Answered by
   * `subscribed` or `error`. The token is for groups that need one; call again with a newer one.
   * Throws a TypeError for what cannot be the name of a group.
   */
  subscribe(group, token) {
    const mine = this.#mine(group);
    mine.token = token ?? mine.token;
    this.#share.request({ want: group, token: mine.token, presence: mine.presence });
  }
  /** Ends a subscription. Answered by `unsubscribed`. */
  unsubscribe(group) {
    if (this.#groups.delete(group)) this.#share.request({ "drop": group });
  }
  /**
   * Reads a page of the history of a group that is subscribed to. Rejects with a `RequestError` if there
   * is no connection, or the server refuses.
   */
  history(group, question = {}) {
    return this.#pages.ask(group, question);
  }
  /** Who is in a group that was joined with `presence: true`; undefined until the server has said so. */
  presence(group) {
    return this.#groups.get(group)?.present;
  }
  /**
   * Shows a state of this user, now and after every reconnect, to all who see the presence of a group
   * that this client has joined. It replaces the one before; null shows none.
   */
  setPresence(group, state) {
    const mine = this.#groups.get(group);
    if (!mine) return;
    mine.state = state;
    if (mine.live) this.#showState(group, state);
  }
  /**
   * Sends a frame. `'sent'` says that there was a connection to send it on, `'queued'` that it leaves
   * when the first connection opens, and `false` that it does not leave: there is no connection any
   * more, or the queue is full.
   */
  send(frame) {
    if (this.#share.request({ send: frame })) return "sent";
    const text = JSON.stringify(frame);
    if (!this.#queue || this.#queue.length >= QUEUE || text.length > QUEUED_LENGTH) return false;
    this.#queue.push(text);
    return "queued";
  }
  /**
   * Tries again now, also after the connection was closed for good: say, when someone has signed in,
   * who may be another user than before.
   */
  retry() {
    this.#user = void 0;
    this.#start();
  }
  /** Closes the connection. Listeners and subscriptions stay, in case of `retry`. */
  close() {
    this.#page?.abort();
    this.#share.stop();
    this.#news({ status: { state: "closed", code: 1e3, reason: "" } });
  }
  #showState(group, state) {
    this.send({ type: "presence_set", group, state });
  }
  #start() {
    if (this.#inert) return;
    this.#watchPage();
    this.#share.start();
  }
  #mine(group) {
    if (!GROUP.test(group)) throw new TypeError(`not a group: ${group}`);
    const mine = this.#groups.get(group) ?? { live: false, handles: /* @__PURE__ */ new Set() };
    this.#groups.set(group, mine);
    return mine;
  }
  /** Fetches a token, and subscribes with it. */
  async #renew(name, mine) {
    if (mine.fetching) return;
    mine.fetching = true;
    try {
      const token = await mine.fetchToken();
      if (this.#groups.get(name) === mine) this.subscribe(name, token);
    } catch (error) {
      if (this.#groups.get(name) === mine) this.#refused({ type: "error", code: "no_token", message: String(error), group: name }, mine);
    }
    mine.fetching = false;
  }
  /** A frame was refused, or a group. */
  #refused(frame, mine) {
    const final = mine && !mine.live && frame.code !== "unavailable";
    if (final && mine.fetchToken && frame.code === "unknown_group" && (mine.refused = (mine.refused ?? 0) + 1) <= MOST_TOKENS) {
      void this.#renew(frame.group, mine);
      return;
    }
    this.#emit("error", frame);
    if (final) this.unsubscribe(frame.group);
  }
  /** The first connection is open, or there will be none. */
  #sendQueue(open) {
    for (const text of this.#queue?.splice(0) ?? []) {
      if (!open || !this.#share.request({ send: JSON.parse(text) })) this.#emit("error", { type: "error", code: "not_sent", message: text });
    }
    this.#queue = void 0;
  }
  #listen(type, listener) {
    const listeners = this.#listeners.get(type) ?? /* @__PURE__ */ new Set();
    this.#listeners.set(type, listeners.add(listener));
    return () => listeners.delete(listener);
  }
  #emit(type, value, source) {
    for (const listener of this.#listeners.get(type) ?? []) {
      try {
        listener(value, source);
      } catch (error) {
        queueMicrotask(() => {
          throw error;
        });
      }
    }
  }
  #news(news) {
    if ("frame" in news) {
      this.#frame(news.frame);
      return;
    }
    if ("event" in news) {
      this.#event(news.event);
      return;
    }
    this.#status = news.status;
    if (news.status.state !== "open") this.#pages?.giveUp();
    this.#options.debug?.(news.status.state, news.status);
    this.#emit("", news.status);
    const { state } = news.status;
    if (state === "open" || state === "closed") this.#sendQueue(state === "open");
  }
  #frame(frame) {
    if (this.#pages?.answer(frame)) return;
    const { type } = frame;
    const mine = this.#groups.get(frame.group);
    const control = CONTROL.includes(type);
    if (control) this.#options.debug?.(type, frame);
    if (type === "error") return this.#refused(frame, mine);
    if (type === "welcome") this.#welcomed(frame);
    const presence = type.startsWith("presence");
    if (!mine && (presence || type === "gap") && this.#share.shared) return;
    if (mine && type === "gap") mine.gap = true;
    if (mine && type === "subscribed") {
      if (mine.state && !mine.live) this.#showState(frame.group, mine.state);
      mine.live = true;
      mine.refused = 0;
    }
    if (mine && presence) mine.present = this.#fold?.(mine.present, frame);
    this.#emit(type, frame);
    if (mine && type === "presence_change") this.#emit("presence", mine.present);
    if (!control) this.#emit("*", frame);
  }
  #event({ event, group, id }) {
    if (!this.#fresh(group, id)) return;
    const source = id === void 0 ? { group } : { group, id };
    if (!CONTROL.includes(event.type)) this.#emit(event.type, event, source);
    this.#emit("*", event, source);
  }
  /** Reports whether an event is for this tab, and was not seen before. */
  #fresh(group, id) {
    const mine = this.#groups.get(group);
    if (!mine) return !this.#share.shared;
    if (!isPosition(id)) return true;
    if (!mine.gap && !after(id, mine.last)) return false;
    mine.gap = false;
    mine.last = id;
    return true;
  }
  #welcomed(welcome) {
    this.#welcome = welcome;
    for (const mine of this.#groups.values()) {
      mine.again ||= mine.live;
      mine.live = false;
    }
  }
  /** Follows what happens to the page and its network. */
  #watchPage() {
    this.#page?.abort();
    this.#page = new AbortController();
    const { signal } = this.#page;
    const actions = {
      online: () => this.#share.nudge(true),
      offline: () => this.#share.nudge(false),
      visibilitychange: () => this.#share.nudge(globalThis.document?.visibilityState === "visible"),
      // A page that may be kept for the back button lets go of its socket, and takes it up again.
      pagehide: () => this.#share.stop(),
      pageshow: ({ persisted }) => {
        if (persisted && this.#status.state !== "closed") this.#share.start();
      }
    };
    for (const type in actions) globalThis.addEventListener?.(type, actions[type], { signal });
  }
};

// src/pages.ts
var RequestError = class extends Error {
  constructor(code, message) {
    super(message);
    this.code = code;
  }
};
var Pages = class {
  // by request_id
  constructor(carrier) {
    this.carrier = carrier;
  }
  #questions = /* @__PURE__ */ new Map();
  ask(group, question) {
    return new Promise((resolve, reject) => {
      const request_id = Math.random().toString(36).slice(2);
      this.#questions.set(request_id, { resolve, reject });
      if (!this.carrier.request({ send: { type: "history", group, ...question, request_id }, ask: request_id })) this.giveUp(request_id);
    });
  }
  /** The connection is gone, and with it the answers: to one question, or to all. */
  giveUp(id) {
    for (const [request_id, { reject }] of this.#questions) {
      if (id && id !== request_id) continue;
      this.#questions.delete(request_id);
      reject(new RequestError("not_connected", "There is no WebSocket."));
    }
  }
  /** Reports whether the frame answers a question. */
  answer({ request_id, type, code, message, events, more }) {
    const question = this.#questions.get(request_id);
    if (!question) return false;
    this.#questions.delete(request_id);
    if (type === "error") question.reject(new RequestError(code, message));
    else question.resolve({ events, more });
    return true;
  }
};

// src/presence.ts
function fold(known, frame) {
  if (frame.type === "presence") return frame;
  const { group, joined = [], left = [], count } = frame;
  const users = known?.users && new Map(known.users.map((user) => [user.user_id, user]));
  for (const { user_id } of left) users?.delete(user_id);
  for (const user of joined) users?.set(user.user_id, user);
  return { type: "presence", group, ...users && { users: [...users.values()] }, count };
}

// src/share.ts
var HELLO_MS = 3e3;
var QUIET_MS = 25e3;
var PATIENCE_MS = 5e3;
var Share = class extends Alone {
  #sharing = Boolean(this.options.share && globalThis.navigator?.locks && globalThis.BroadcastChannel);
  #key = "";
  // of the lock and the channel
  #role = "alone";
  #term = new AbortController();
  // ends this tab's part under #key
  #channel;
  #following;
  #pulse;
  #lastWord;
  // what ended the socket of others, until ours opens
  get shared() {
    return this.#role !== "alone";
  }
  /** Lets go of everything; the tab that follows takes over. */
  stop() {
    this.#lastWord = void 0;
    this.#leave();
    super.stop();
  }
  request(request) {
    const follows = this.#role === "follower";
    const once = "send" in request;
    if (follows || this.#role === "alone" && !once) this.#post({ tab: this.id, request });
    if (!follows) return super.request(request);
    return this.state.state === "open" && !(once && this.state.transport === "sse");
  }
  nudge(hopeful) {
    if (this.#role !== "follower") return this.link.nudge(hopeful);
    this.#pulse?.probe();
    if (hopeful) this.#post({ tab: this.id, "nudge": true });
  }
  // From the link.
  status(status) {
    this.hub.detach();
    if (this.#lastWord && status.state === "waiting") {
      this.link.stop();
      status = this.#lastWord;
    }
    const end = status.state === "closed" || status.state === "waiting" && status.code === 4409;
    if (end) this.#post({ hub: this.id, says: "end", status });
    if (end || this.#role === "alone") this.#leave();
    this.tell({ status });
  }
  opening() {
    return this.hub.opening(!this.#sharing || this.#role === "leader");
  }
  attach(welcome, key) {
    this.#lastWord = void 0;
    if (!this.#sharing || this.#role === "leader" && key === this.#key) {
      super.attach(welcome, key);
      return;
    }
    this.#post({ hub: this.id, says: "end", status: this.state });
    this.#leave();
    this.#key = key;
    const term = this.#term.signal;
    void navigator.locks.request(key, { ifAvailable: true }, (lock) => {
      if (term.aborted) return void 0;
      return lock ? this.#lead(welcome) : void this.#follow(welcome);
    }).catch((error) => this.#lost(term, error));
  }
  tell(news, to) {
    if (this.#role === "leader") this.#post({ hub: this.id, to, news });
    super.tell(news, to);
  }
  #post(message) {
    this.#channel?.postMessage(message);
  }
  #leave() {
    this.#role = "alone";
    this.#term.abort();
    this.#term = new AbortController();
    this.#pulse?.stop();
    this.#channel?.close();
    this.#channel = this.#following = void 0;
  }
  /** Another tab took the lock because this one was frozen; or there are no locks here after all. */
  #lost(term, error) {
    if (term.aborted) return;
    this.#sharing = error.name === "AbortError";
    this.start();
  }
  // With the socket, for all.
  /** Returns a promise that lasts as long as this tab leads, for the lock. */
  #lead(welcome) {
    const term = this.#term.signal;
    const known = /* @__PURE__ */ new Set();
    this.#role = "leader";
    this.#listen(({ data }) => {
      if (!("tab" in data)) return this.#heardLate(data);
      const { tab } = data;
      if ("request" in data) this.hub.request(tab, data.request);
      if ("probe" in data) this.#post({ hub: this.id, says: "alive" });
      if ("nudge" in data) this.link.nudge(true);
      if (!("hello" in data)) return;
      this.link.nudge(true);
      this.#post({ hub: this.id, to: [tab], says: "hello", welcome: this.hub.welcome, status: this.state });
      for (const [want, wanted] of data.hello) this.hub.request(tab, { want, ...wanted });
      if (known.has(tab)) return;
      known.add(tab);
      void navigator.locks.request(`${this.#key} ${tab}`, { signal: term }, () => this.hub.leave(tab)).catch(() => {
      });
    });
    this.#post({ hub: this.id, says: "new" });
    if (welcome) this.hub.attach(welcome);
    return lasting(term);
  }
  // Over the socket of another tab.
  /** Keeps its own connection, on which nothing was asked yet, until the leader answers. */
  async #follow(welcome) {
    const term = this.#term.signal;
    await new Promise((held) => {
      void navigator.locks.request(`${this.#key} ${this.id}`, () => {
        held();
        return lasting(term);
      });
    });
    if (term.aborted) return;
    const alone = setTimeout(() => {
      if (term.aborted || this.#following) return;
      this.#leave();
      this.hub.attach(welcome);
    }, HELLO_MS);
    const hello = () => this.#post({ tab: this.id, hello: this.owner.wants() });
    this.#listen(({ data }) => {
      if (!data.hub || data.to && !data.to.includes(this.id)) return;
      if ("news" in data) {
        if (data.hub !== this.#following) return;
        this.#pulse.heard();
        super.tell(data.news);
      } else if (data.says === "new") {
        hello();
      } else if (data.says === "hello") {
        clearTimeout(alone);
        this.#join(data);
      } else if (data.hub === this.#following) {
        if (data.says === "alive") this.#pulse.heard();
        else this.#dismissed(data.status);
      }
    });
    hello();
  }
  #join({ hub, welcome, status }) {
    if (!this.#following) {
      this.#role = "follower";
      this.link.stop();
      const term = this.#term.signal;
      const succeed = () => term.aborted || this.#role === "leader" ? void 0 : this.#succeed();
      const lock = (options) => void navigator.locks.request(this.#key, options, succeed).catch((error) => this.#lost(term, error));
      this.#pulse = new Pulse(QUIET_MS, PATIENCE_MS, () => this.#post({ tab: this.id, "probe": true }), () => lock({ steal: true }));
      lock({ signal: term });
    }
    this.#following = hub;
    this.#pulse.heard();
    if (welcome) super.tell({ frame: welcome });
    super.tell({ status });
  }
  /** The leader is gone, and this tab is next. */
  #succeed() {
    this.#pulse?.stop();
    const led = this.#lead();
    this.connect();
    return led;
  }
  /** The lock came before the word of the leader whose it was: why its connection ended. */
  #heardLate(data) {
    if (data.hub !== this.#following || !("says" in data) || data.says !== "end" || this.state.state === "open") return;
    if (data.status.state === "closed") this.#lastWord = data.status;
    else this.owner.news({ status: data.status });
    this.owner.news({ status: this.state });
  }
  /** The leader's connection ended for a reason that may be ours too, or not. */
  #dismissed(status) {
    if (status.state === "waiting") this.owner.news({ status });
    this.start();
    if (status.state === "closed") this.#lastWord = status;
  }
  #listen(onmessage) {
    this.#channel ??= new BroadcastChannel(this.#key);
    this.#channel.onmessage = onmessage;
  }
};
function lasting(signal) {
  return new Promise((resolve) => {
    if (signal.aborted) resolve();
    signal.addEventListener("abort", () => resolve());
  });
}

// src/stream.ts
var MISSES = 2;
var PROBE_MS = 6e4;
var LONGEST_PROBE_MS = 36e5;
var COLLECT_MS = 50;
var STATUSES = [401, 403, 404, 429];
var EventStream = class {
  #abort = new AbortController();
  /** Sends the request, with a message as its body. */
  async open(url, message, fetch2, token) {
    const headers = { "Content-Type": "application/json", ...token && { Authorization: `Bearer ${token}` } };
    const end = await this.#read(url, { method: "POST", body: JSON.stringify(message), credentials: "include", headers }, fetch2).catch(() => {
    });
    if (!this.#abort.signal.aborted) this.onclose?.(end ?? { code: 1006, reason: "" });
  }
  close() {
    this.#abort.abort();
  }
  /** Returns why the stream ended, if the server said so. */
  async #read(url, request, fetch2) {
    const { signal } = this.#abort;
    const response = await fetch2(url, { ...request, signal });
    if (response.status !== 200) return refusal(response);
    const reader = response.body.getReader();
    const decoder = new TextDecoder();
    let rest = "";
    let event = { name: "", data: "" };
    for (let part = await reader.read(); part.value; part = await reader.read()) {
      const lines = (rest + decoder.decode(part.value, { stream: true })).split("\n");
      rest = lines.pop();
      for (const line of lines) {
        if (signal.aborted) return void 0;
        if (line.startsWith("data: ")) event.data += `${line.slice(6)}
`;
        else if (line.startsWith("event: ")) event.name = line.slice(7);
        if (line) continue;
        if (event.name === "close") return JSON.parse(event.data);
        this.onmessage?.(event);
        event = { name: "", data: "" };
      }
    }
    return void 0;
  }
};
async function refusal(response) {
  const { status, headers } = response;
  const code = STATUSES.includes(status) ? 4e3 + status : status === 503 && 1013;
  if (!code || !(await response.json()).code) return void 0;
  return { code, reason: `{"retry_after_ms":${Number(headers.get("Retry-After")) * 1e3}}` };
}
var RENEW_AT = 0.8;
var SOON_MS = 1e3;
function expiry(token = "") {
  try {
    return JSON.parse(atob(token.split(".")[1].replaceAll("-", "+").replaceAll("_", "/"))).exp * 1e3;
  } catch {
    return NaN;
  }
}
var StreamingLink = class extends Link {
  #change;
  // opens the stream again
  #misses = 0;
  // WebSockets in a row that found no server
  #probing;
  // tries a WebSocket next to the stream
  #probe;
  // that one
  #token;
  // of this connection
  #life = 0;
  // grows with each attempt, so that late tokens are ignored
  #renewing;
  // sends a newer token
  get streams() {
    return this.socket instanceof EventStream;
  }
  open(stream = this.blocked) {
    const { transport } = this.options;
    this.begin();
    this.#authorized(() => {
      if (!(transport ? transport === "sse" : stream)) return this.use(this.webSocket());
      const socket = new EventStream();
      this.use(socket);
      if (socket !== this.socket) return;
      void socket.open(this.url.replace("ws", "http").replace("/ws/", "/sse/"), this.owner.opening(), this.options.fetch ?? fetch, this.#token);
    }, () => this.end(1006, "no_token"));
  }
  /** Goes on when there is a token, if one is needed and this attempt is still the last. */
  #authorized(go, failed) {
    const { token } = this.options;
    if (!token) return go();
    const life = this.#life;
    void Promise.resolve().then(token).then((fetched) => {
      if (life !== this.#life) return;
      this.#token = fetched;
      this.protocols = [PROTOCOL, `orgcast.jwt.${fetched}`];
      go();
    }, () => {
      if (life === this.#life) failed();
    });
  }
  /** Sends a newer token when little is left of the life of the last one. */
  #renewLater() {
    const left = expiry(this.#token) - Date.now();
    if (!(left > 0)) return;
    this.#renewing = setTimeout(() => {
      const again = () => this.#renewLater();
      this.#authorized(() => {
        this.send({ type: "token", token: this.#token });
        again();
      }, again);
    }, Math.min(Math.max(left * RENEW_AT, SOON_MS), 2e9));
  }
  write(frame) {
    if (this.streams) this.#change ??= setTimeout(() => this.open(), COLLECT_MS);
    else super.write(frame);
  }
  opened(welcome) {
    this.#misses = 0;
    this.blocked = this.streams;
    if (this.blocked) this.#watch(PROBE_MS);
    if (!this.blocked) this.#renewLater();
    super.opened(welcome);
  }
  detours(missed) {
    if (this.streams) this.blocked &&= !missed;
    else if (missed && ++this.#misses >= MISSES && !this.options.transport) {
      this.open(true);
      return true;
    }
    return false;
  }
  drop() {
    this.#life++;
    clearTimeout(this.#renewing);
    clearTimeout(this.#change);
    clearTimeout(this.#probing);
    this.#change = void 0;
    this.#probe?.close(1e3);
    this.#probe = void 0;
    super.drop();
  }
  /** Tries a WebSocket after a time, while there is a stream, and goes over to it if it opens. */
  #watch(after2) {
    if (this.options.transport) return;
    const later = () => this.#watch(Math.min(2 * after2, LONGEST_PROBE_MS));
    this.#probing = setTimeout(() => this.#authorized(() => {
      const socket = this.#probe = this.webSocket();
      socket.onclose = () => {
        if (socket === this.#probe) later();
      };
      socket.onmessage = ({ data }) => {
        if (socket !== this.#probe) return;
        this.#probe = void 0;
        this.drop();
        this.use(socket);
        if (socket === this.socket) this.receive(data);
      };
    }, later), after2 * (0.5 + Math.random()));
  }
};
var StreamingHub = class extends Hub {
  #opening = /* @__PURE__ */ new Map();
  attach(welcome) {
    super.attach(welcome);
    if (!this.link.streams) return;
    for (const name of this.#opening.keys()) if (!this.groups.has(name)) this.write("unsubscribe", name, {});
  }
  /** All groups, or none while it is not known whether this hub is for them. */
  opening(all) {
    this.#opening = new Map(all ? [...this.groups].map(([name, group]) => [name, this.asking(group, group.token)]) : []);
    return { type: "subscribe", groups: Object.fromEntries(this.#opening) };
  }
  request(tab, request) {
    if (!this.link.streams || !("send" in request)) return super.request(tab, request);
    if (!request.ask) this.tell({ frame: { type: "error", code: "websocket_required", message: "There is no WebSocket." } }, [tab]);
    return false;
  }
  forget() {
    super.forget();
    this.#opening.clear();
  }
  greet(name, group) {
    const asked = this.link.streams && this.#opening.get(name);
    if (asked && asked.token === group.token && asked.presence === group.presence) this.await(name, group.tabs, Boolean(asked.after));
    else super.greet(name, group);
  }
};

// src/index.ts
function connect(url, options = {}) {
  return new Client(url, options, { Share, Link: StreamingLink, Hub: StreamingHub, Pages, fold });
}
export {
  Client,
  Group,
  RequestError,
  connect
};
