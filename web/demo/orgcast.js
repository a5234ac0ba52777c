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
  constructor(link, tell) {
    this.link = link;
    this.tell = tell;
  }
  link;
  tell;
  #groups = /* @__PURE__ */ new Map();
  #asked = /* @__PURE__ */ new Map();
  // by group, the oldest first
  #outgoing = [];
  // leave together, at the end of the task
  #room = 0;
  // bytes that the last of them may still grow by
  #opening = /* @__PURE__ */ new Map();
  // what the stream asked for, if it is one
  #resumes = false;
  // whether the server can send what was missed
  welcome;
  /** A connection is open, and nothing has been asked on it yet. */
  attach(welcome) {
    this.welcome = welcome;
    this.#resumes = welcome.resume;
    const opening = this.link.streams ? this.#opening : /* @__PURE__ */ new Map();
    for (const [name, group] of this.#groups) {
      group.live = false;
      const asked = opening.get(name);
      if (asked && asked.token === group.token) this.#await(name, group.tabs, Boolean(asked.after));
      else this.#ask([{ name, group, tabs: group.tabs, token: group.token }]);
    }
    for (const name of opening.keys()) if (!this.#groups.has(name)) this.#write("unsubscribe", name, {});
    this.tell({ frame: welcome });
    this.tell({ status: { state: "open", transport: this.link.streams ? "sse" : "websocket" } });
  }
  /** What a stream asks for: all groups, or none while it is not known whether this hub is for them. */
  opening(all) {
    this.#opening = new Map(all ? [...this.#groups].map(([name, group]) => [name, this.#asking(group, group.token)]) : []);
    return { type: "subscribe", groups: Object.fromEntries(this.#opening) };
  }
  /** Positions mean nothing any more: they are of another organization's histories. */
  forget() {
    for (const group of this.#groups.values()) group.last = void 0;
    this.#opening.clear();
  }
  /** The connection is gone; tabs keep what they want. */
  detach() {
    this.welcome = void 0;
    this.#outgoing = [];
    for (const group of this.#groups.values()) group.again ||= group.live;
    for (const [name, questions] of this.#asked) {
      if (!this.#groups.has(name)) this.#unsubscribed(name, questions.flatMap(({ tabs }) => tabs));
    }
    this.#asked.clear();
  }
  /** A tab asks for something. */
  request(tab, request) {
    if ("send" in request) {
      this.#flush();
      if (!this.link.streams) return this.link.send(request.send);
      this.tell({ frame: { type: "error", code: "websocket_required", message: "This needs a WebSocket." } }, [tab]);
      return false;
    }
    if ("want" in request) this.#want(tab, request.want, request);
    else this.#drop(tab, request.drop);
    return true;
  }
  /** A tab is gone. */
  leave(tab) {
    for (const name of this.#groups.keys()) this.#drop(tab, name);
  }
  /** The server said something other than welcome. */
  frame(frame) {
    if (frame.type === "error" && Array.isArray(frame.groups)) {
      const { groups, ...rest } = frame;
      for (const group2 of groups) this.frame({ ...rest, group: group2 });
      return;
    }
    const name = frame.group;
    const group = this.#groups.get(name);
    if (ANSWERS.includes(frame.type) && this.#asked.has(name)) {
      this.#answered(frame, name, group);
      return;
    }
    if (group && frame.type === "gap") group.gap = true;
    this.tell({ frame });
  }
  /** An event came. */
  event(event) {
    const group = this.#groups.get(event.group);
    if (group && isPosition(event.id) && (group.gap || after(event.id, group.last))) {
      group.gap = false;
      group.last = event.id;
    }
    this.tell({ event });
  }
  #want(tab, name, { token, last, again }) {
    const group = this.#groups.get(name) ?? { live: false, tabs: /* @__PURE__ */ new Set() };
    this.#groups.set(name, group);
    group.tabs.add(tab);
    group.token = token ?? group.token;
    if (!group.live) {
      if (last && (!group.last || after(group.last, last))) group.last = last;
      group.again ||= again;
    } else if (again && (!last || last !== group.last)) {
      this.tell({ frame: { type: "gap", group: name, after: last, before: group.last } }, [tab]);
    }
    if (this.welcome) this.#ask([{ name, group, tabs: [tab], token }]);
  }
  #drop(tab, name) {
    const group = this.#groups.get(name);
    if (!group?.tabs.delete(tab)) return;
    if (!group.tabs.size) {
      this.#groups.delete(name);
      if (this.welcome && (group.live || this.#asked.has(name))) {
        this.#write("unsubscribe", name, {});
        this.#await(name, [tab], false);
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
      const asking = this.#asking(group, token);
      this.#write("subscribe", name, asking);
      this.#await(name, tabs, Boolean(asking.after));
    }
  }
  #asking({ again, last }, token) {
    return { after: this.#resumes && again ? last : void 0, token };
  }
  /** Adds the name to the last frame that is about to leave, or to a new one if it does not fit. */
  #write(type, name, asking) {
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
  #await(name, tabs, resume) {
    this.#asked.set(name, [...this.#asked.get(name) ?? [], { tabs: [...tabs], resume }]);
  }
  /** The answer to the oldest question about a group goes to those who asked it. */
  #answered(frame, name, group) {
    const questions = this.#asked.get(name);
    const { tabs, resume } = questions.shift();
    if (!questions.length) this.#asked.delete(name);
    this.tell({ frame }, tabs);
    if (frame.code === "unavailable") setTimeout(() => this.#retry(name, tabs), AGAIN_MS * (1 + Math.random()));
    if (frame.type !== "subscribed" || !group) return;
    if (group.again && !resume) this.tell({ frame: { type: "gap", group: name, after: group.last } });
    group.again = false;
    group.live = true;
  }
  #retry(name, asked) {
    const group = this.#groups.get(name);
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
  quiet;
  patience;
  ask;
  silent;
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

// src/stream.ts
var STATUSES = [401, 403, 404, 429];
var EventStream = class {
  /** Called with the data of each event, and with nothing at any other sign of life. */
  onmessage;
  onclose;
  #abort = new AbortController();
  /** Sends the request, with a message as its body. */
  async open(url, message) {
    const end = await this.#read(url, JSON.stringify(message)).catch(() => {
    });
    if (!this.#abort.signal.aborted) this.onclose?.(end ?? { code: 1006, reason: "" });
  }
  close() {
    this.#abort.abort();
  }
  /** Returns why the stream ended, if the server said so. */
  async #read(url, body) {
    const { signal } = this.#abort;
    const response = await fetch(url, { method: "POST", body, signal, credentials: "include", headers: { "Content-Type": "application/json" } });
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

// src/link.ts
var PROTOCOL = "orgcast.v1";
var HANDSHAKE_MS = 15e3;
var STEADY_MS = 1e4;
var MISSES = 2;
var PROBE_MS = 6e4;
var LONGEST_PROBE_MS = 36e5;
var COLLECT_MS = 50;
var Link = class {
  // the address of the stream
  /** blocked says that only streams open here, as far as is known. */
  constructor(url, options, owner, blocked = false) {
    this.url = url;
    this.options = options;
    this.owner = owner;
    this.blocked = blocked;
    this.#stream = url.replace("ws", "http").replace("/ws/", "/sse/");
  }
  url;
  options;
  owner;
  blocked;
  #socket;
  #timer;
  // ends the handshake or the wait
  #pulse;
  // from the welcome to the end of a connection
  #openedAt = 0;
  #failures = 0;
  #slotAt = 0;
  // before this time no attempt is made
  #last;
  // what ends the client if this attempt does not open
  #life = 0;
  // grows when the owner starts or stops, so that late answers to check are ignored
  #change;
  // opens the stream again
  #misses = 0;
  // WebSockets in a row that found no server
  #probing;
  // tries a WebSocket next to the stream
  #probe;
  // that one
  #stream;
  /** Whether this is a stream, which says in its request all that it will ever say. */
  get streams() {
    return this.#socket instanceof EventStream;
  }
  /** Connects now, whatever went before. */
  start() {
    this.#life++;
    this.#failures = 0;
    this.#last = void 0;
    this.#open();
  }
  /** Closes without a word to the owner. */
  stop() {
    this.#life++;
    this.#drop();
  }
  /**
   * Sends the frame, and reports whether there was a connection to send it on. A stream sends it by
   * asking again for all that its owner wants by then.
   */
  send(frame) {
    if (!this.#pulse) return false;
    if (this.#socket instanceof EventStream) this.#change ??= setTimeout(() => this.#open(), COLLECT_MS);
    else this.#socket.send(JSON.stringify(frame));
    return true;
  }
  /**
   * The network may have changed, or someone looks: trusts nothing. hopeful says that an attempt may
   * succeed now: then it waits no longer, except for a slot that the server assigned.
   */
  nudge(hopeful) {
    if (this.#pulse) this.streams || this.#pulse.probe();
    else if (hopeful && this.#timer && !this.#socket && Date.now() >= this.#slotAt) this.#open();
  }
  #open(stream = this.blocked) {
    this.#drop();
    const { transport } = this.options;
    const socket = (transport ? transport === "sse" : stream) ? new EventStream() : new WebSocket(this.url, PROTOCOL);
    this.#timer = setTimeout(() => this.#end(1006, ""), HANDSHAKE_MS);
    this.#use(socket);
    if (socket === this.#socket && socket instanceof EventStream) void socket.open(this.#stream, this.owner.opening());
  }
  #use(socket) {
    this.#socket = socket;
    socket.onmessage = ({ data }) => {
      if (socket === this.#socket) this.#receive(data);
    };
    socket.onclose = ({ code, reason }) => {
      if (socket === this.#socket) this.#end(code, reason);
    };
    this.owner.status({ state: "connecting" });
  }
  /** Tries a WebSocket after a time, while there is a stream, and goes over to it if it opens. */
  #watch(after2) {
    if (this.options.transport) return;
    this.#probing = setTimeout(() => {
      const socket = this.#probe = new WebSocket(this.url, PROTOCOL);
      socket.onclose = () => {
        if (socket === this.#probe) this.#watch(Math.min(2 * after2, LONGEST_PROBE_MS));
      };
      socket.onmessage = ({ data }) => {
        if (socket !== this.#probe) return;
        this.#probe = void 0;
        this.#drop();
        this.#use(socket);
        if (socket === this.#socket) this.#receive(data);
      };
    }, after2 * (0.5 + Math.random()));
  }
  #receive(data) {
    this.#pulse?.heard();
    let frame;
    try {
      frame = JSON.parse(String(data));
    } catch {
      return;
    }
    if (isEnvelope(frame)) {
      this.owner.event(frame);
      return;
    }
    if (typeof frame?.type !== "string") return;
    if (frame.type === "welcome") {
      const welcome = frame;
      const { pingAfter = welcome.ping_ms || 25e3, answerWithin = 1e4 } = this.options;
      clearTimeout(this.#timer);
      this.#openedAt = Date.now();
      this.#last = void 0;
      this.#misses = 0;
      this.blocked = this.streams;
      if (this.blocked) this.#watch(PROBE_MS);
      this.#pulse = new Pulse(this.blocked ? Math.max(pingAfter, welcome.ping_ms) : pingAfter, answerWithin, () => this.streams || this.send({ type: "ping" }), () => this.#end(4408, "silent"));
      this.#pulse.heard();
      this.owner.welcome(welcome);
      return;
    }
    if (frame.type !== "pong") this.owner.frame(frame);
  }
  #end(code, reason) {
    const opened = this.#openedAt;
    if (code === 4409 || opened && Date.now() - opened >= STEADY_MS) this.#failures = 0;
    const missed = !opened && code === 1006;
    if (this.streams) this.blocked &&= !missed;
    else if (missed && ++this.#misses >= MISSES && !this.options.transport) return this.#open(true);
    this.#drop();
    const next = this.#last ? void 0 : plan(code, reason, this.#failures, this.options.maxWait ?? 3e4);
    if (!next) {
      this.owner.status({ state: "closed", ...this.#last ?? { code, reason } });
      return;
    }
    if (next.failed) this.#failures++;
    if (next.once) this.#last = { code, reason };
    const now = Date.now();
    this.#slotAt = now + next.slot;
    this.#timer = setTimeout(() => this.#open(), next.wait);
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
  #drop() {
    const socket = this.#socket;
    this.#socket = void 0;
    clearTimeout(this.#timer);
    clearTimeout(this.#change);
    clearTimeout(this.#probing);
    this.#timer = this.#change = void 0;
    this.#probe?.close(1e3);
    this.#probe = void 0;
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

// src/share.ts
var HELLO_MS = 3e3;
var QUIET_MS = 25e3;
var PATIENCE_MS = 5e3;
var Share = class {
  // what ended the socket of others, until ours opens
  constructor(url, options, owner) {
    this.url = url;
    this.options = options;
    this.owner = owner;
    this.#sharing = Boolean(options.share && globalThis.navigator?.locks && globalThis.BroadcastChannel);
  }
  url;
  options;
  owner;
  #id = Math.random().toString(36).slice(2);
  #sharing;
  #link;
  #hub;
  #status = { state: "connecting" };
  #identity = "";
  // the key of the last welcome
  #key = "";
  // of the lock and the channel
  #role = "alone";
  #term = new AbortController();
  // ends this tab's part under #key
  #channel;
  #following;
  #pulse;
  #lastWord;
  /** Whether other tabs may be using the same socket. */
  get shared() {
    return this.#role !== "alone";
  }
  start() {
    this.stop();
    this.#connect();
  }
  /** Lets go of everything; whoever follows takes over. */
  stop() {
    this.#lastWord = void 0;
    this.#leave();
    this.#link?.stop();
  }
  request(request) {
    const follows = this.#role === "follower";
    if (follows || this.#role === "alone" && !("send" in request)) this.#post({ tab: this.#id, request });
    if (!follows) return this.#hub.request(this.#id, request);
    return this.#status.state === "open" && !("send" in request && this.#status.transport === "sse");
  }
  nudge(hopeful) {
    if (this.#role !== "follower") return this.#link.nudge(hopeful);
    this.#pulse?.probe();
    if (hopeful) this.#post({ tab: this.#id, nudge: true });
  }
  // From the link.
  status(status) {
    this.#hub.detach();
    if (this.#lastWord && status.state === "waiting") {
      this.#link.stop();
      status = this.#lastWord;
    }
    const end = status.state === "closed" || status.state === "waiting" && status.code === 4409;
    if (end) this.#post({ hub: this.#id, says: "end", status });
    if (end || this.#role === "alone") this.#leave();
    this.#tell({ status });
  }
  welcome(welcome) {
    this.#lastWord = void 0;
    if (!this.owner.knows(welcome)) {
      this.#link.stop();
      this.status({ state: "closed", code: 4401, reason: "identity" });
      return;
    }
    const key = JSON.stringify(["orgcast", this.url, this.options.share, welcome.organization_id, welcome.user_id]);
    if (this.#identity && key !== this.#identity) {
      this.owner.forget();
      this.#hub.forget();
    }
    this.#identity = key;
    if (!this.#sharing || this.#role === "leader" && key === this.#key) {
      this.#hub.attach(welcome);
      return;
    }
    this.#post({ hub: this.#id, says: "end", status: this.#status });
    this.#leave();
    this.#key = key;
    const term = this.#term.signal;
    void navigator.locks.request(key, { ifAvailable: true }, (lock) => {
      if (term.aborted) return void 0;
      return lock ? this.#lead(welcome) : void this.#follow(welcome);
    }).catch((error) => this.#lost(term, error));
  }
  opening() {
    return this.#hub.opening(!this.#sharing || this.#role === "leader");
  }
  frame(frame) {
    this.#hub.frame(frame);
  }
  event(envelope) {
    this.#hub.event(envelope);
  }
  // Alone.
  #connect() {
    this.#link = new Link(this.url, this.options, this, this.#link?.blocked);
    this.#hub = new Hub(this.#link, (news, to) => this.#tell(news, to && [...to]));
    for (const [want, wanted] of this.owner.wants()) this.#hub.request(this.#id, { want, ...wanted });
    this.#link.start();
  }
  #tell(news, to) {
    if ("status" in news) this.#status = news.status;
    if (this.#role === "leader") this.#post({ hub: this.#id, to, news });
    if (!to || to.includes(this.#id)) this.owner.news(news);
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
      if ("request" in data) this.#hub.request(tab, data.request);
      if ("probe" in data) this.#post({ hub: this.#id, says: "alive" });
      if ("nudge" in data) this.#link.nudge(true);
      if (!("hello" in data)) return;
      this.#link.nudge(true);
      this.#post({ hub: this.#id, to: [tab], says: "hello", welcome: this.#hub.welcome, status: this.#status });
      for (const [want, wanted] of data.hello) this.#hub.request(tab, { want, ...wanted });
      if (known.has(tab)) return;
      known.add(tab);
      void navigator.locks.request(`${this.#key} ${tab}`, { signal: term }, () => this.#hub.leave(tab)).catch(() => {
      });
    });
    this.#post({ hub: this.#id, says: "new" });
    if (welcome) this.#hub.attach(welcome);
    return lasting(term);
  }
  // Over the socket of another tab.
  /** Keeps its own connection, on which nothing was asked yet, until the leader answers. */
  async #follow(welcome) {
    const term = this.#term.signal;
    await new Promise((held) => {
      void navigator.locks.request(`${this.#key} ${this.#id}`, () => {
        held();
        return lasting(term);
      });
    });
    if (term.aborted) return;
    const alone = setTimeout(() => {
      if (term.aborted || this.#following) return;
      this.#leave();
      this.#hub.attach(welcome);
    }, HELLO_MS);
    const hello = () => this.#post({ tab: this.#id, hello: this.owner.wants() });
    this.#listen(({ data }) => {
      if (!data.hub || data.to && !data.to.includes(this.#id)) return;
      if ("news" in data) {
        if (data.hub !== this.#following) return;
        this.#pulse.heard();
        if ("status" in data.news) this.#status = data.news.status;
        this.owner.news(data.news);
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
      this.#link.stop();
      const term = this.#term.signal;
      const succeed = () => term.aborted || this.#role === "leader" ? void 0 : this.#succeed();
      const lock = (options) => void navigator.locks.request(this.#key, options, succeed).catch((error) => this.#lost(term, error));
      this.#pulse = new Pulse(QUIET_MS, PATIENCE_MS, () => this.#post({ tab: this.#id, probe: true }), () => lock({ steal: true }));
      lock({ signal: term });
    }
    this.#following = hub;
    this.#pulse.heard();
    if (welcome) this.owner.news({ frame: welcome });
    this.#status = status;
    this.owner.news({ status });
  }
  /** The leader is gone, and this tab is next. */
  #succeed() {
    this.#pulse?.stop();
    const led = this.#lead();
    this.#connect();
    return led;
  }
  /** The lock came before the word of the leader whose it was: why its connection ended. */
  #heardLate(data) {
    if (data.hub !== this.#following || !("says" in data) || data.says !== "end" || this.#status.state === "open") return;
    if (data.status.state === "closed") this.#lastWord = data.status;
    else this.owner.news({ status: data.status });
    this.owner.news({ status: this.#status });
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

// src/client.ts
var GROUP = /^[\w.-]{1,100}$/;
var CONTROL = ["welcome", "subscribed", "unsubscribed", "gap", "error", "pong", "presence", "presence_change", "history", "token_accepted"];
var Client = class {
  #listeners = /* @__PURE__ */ new Map();
  #groups = /* @__PURE__ */ new Map();
  #share;
  #page;
  // ends what #watchPage began
  #status = { state: "connecting" };
  #welcome;
  #user;
  // whom this client is for, from the first welcome on
  /** Use `connect`. */
  constructor(url, options) {
    const absolute = new URL(url, globalThis.location?.href);
    absolute.protocol = absolute.protocol.replace("http", "ws");
    this.#share = new Share(absolute.href, options, {
      news: (news) => this.#news(news),
      wants: () => [...this.#groups].map(([name, { token, last, live, again }]) => [name, { token, last, again: live || again }]),
      forget: () => {
        for (const mine of this.#groups.values()) mine.last = void 0;
      },
      knows: ({ user_id }) => options.anyUser || (this.#user ??= user_id) === user_id
    });
    this.#watchPage();
    this.#share.start();
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
   * Subscribes to a group, now and after every reconnect, until `unsubscribe` or a refusal. Answered by
   * `subscribed` or `error`. The token is for groups that need one; call again with a newer one.
   * Throws a TypeError for what cannot be the name of a group.
   */
  subscribe(group, token) {
    if (!GROUP.test(group)) throw new TypeError(`not a group: ${group}`);
    const mine = this.#groups.get(group) ?? { live: false };
    mine.token = token ?? mine.token;
    this.#groups.set(group, mine);
    this.#share.request({ want: group, token: mine.token });
  }
  /** Ends a subscription. Answered by `unsubscribed`. */
  unsubscribe(group) {
    if (this.#groups.delete(group)) this.#share.request({ drop: group });
  }
  /** Sends a frame, and reports whether there was a connection to send it on: nothing is kept for later. */
  send(frame) {
    return this.#share.request({ send: frame });
  }
  /**
   * Tries again now, also after the connection was closed for good: say, when someone has signed in,
   * who may be another user than before.
   */
  retry() {
    this.#user = void 0;
    this.#watchPage();
    this.#share.start();
  }
  /** Closes the connection. Listeners and subscriptions stay, in case of `retry`. */
  close() {
    this.#page?.abort();
    this.#share.stop();
    this.#news({ status: { state: "closed", code: 1e3, reason: "" } });
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
    this.#emit("", news.status);
  }
  #frame(frame) {
    const name = frame.group;
    const mine = this.#groups.get(name);
    let control = true;
    switch (frame.type) {
      case "welcome":
        this.#welcomed(frame);
        break;
      case "subscribed":
        if (mine) mine.live = true;
        break;
      case "gap":
        if (!mine && this.#share.shared) return;
        if (mine) mine.gap = true;
        break;
      case "unsubscribed":
        break;
      case "error":
        this.#emit("error", frame);
        if (mine && !mine.live && frame.code !== "unavailable") this.unsubscribe(name);
        return;
      default:
        control = CONTROL.includes(frame.type);
    }
    this.#emit(frame.type, frame);
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

// src/index.ts
function connect(url, options = {}) {
  return new Client(url, options);
}
export {
  Client,
  connect
};
