const RESULTS = 10;

const $ = (selector, root = document) => root.querySelector(selector);
const [queryBox, statusLine, results, keysDialog] = ["#query", "#status", "#results", "#keys"].map((id) => $(id));
const cards = new WeakMap();

let currentSearch = new AbortController();
let healthRequest = null;
let countdown = null;

const stamp = (template) => $(template).content.firstElementChild.cloneNode(true);
const seconds = (value) => `${value.toFixed(1)} s`;
const range = (start, end) => `${start.toFixed(1)}–${seconds(end)}`;
const percent = (weight, digits = 0) => `${(100 * weight).toFixed(digits)} %`;
const heaviest = (frames) => frames.reduce((best, frame) => (frame.weight > best.weight ? frame : best));
const urlQuery = () => new URLSearchParams(location.search).get("q")?.trim() ?? "";

// What the server sends passes through here or textContent, so no id or caption becomes markup.
function element(tag, { click, ...attributes } = {}, ...children) {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) if (value != null) node.setAttribute(name, value);
  if (click) node.addEventListener("click", click);
  node.append(...children);
  return node;
}

const button = (attributes, ...children) => element("button", { type: "button", ...attributes }, ...children);

function thumbnail(url) {
  if (!url) return element("span", { class: "thumbnail" });
  const image = element("img", { class: "thumbnail", loading: "lazy", alt: "", src: url });
  image.addEventListener("error", () => image.replaceWith(thumbnail(null)));
  return image;
}

async function api(path, parameters = {}, signal = null) {
  let response;
  try {
    response = await fetch(`${path}?${new URLSearchParams(parameters)}`, { signal });
  } catch (error) {
    throw signal?.aborted ? error : new Error("The server does not answer. Is it still running?");
  }
  const body = await response.json().catch(() => null);
  signal?.throwIfAborted();
  if (response.ok && body) return body;
  const retryAfter = Number(response.headers.get("Retry-After")) || 0;
  throw Object.assign(new Error(sentence(response.status, body?.detail)), { retryAfter });
}

function sentence(status, detail) {
  if (status === 401) return "A token is needed: open the address with ?token=... that the server printed.";
  if (Array.isArray(detail)) return detail.map(({ msg }) => msg).join("; ");
  return detail || `The server answered with status ${status}.`;
}

async function loadHealth() {
  healthRequest ??= api("/health");
  try {
    const health = await healthRequest;
    queryBox.maxLength = health.max_query_length;
    $("#collection").textContent = `This index holds ${health.num_videos.toLocaleString("en")} videos.`;
    return health;
  } catch (error) {
    healthRequest = null;
    throw error;
  }
}

class Strip {
  constructor({ query, score, moments, frames }, seek) {
    this.element = stamp("#strip-template");
    this.peak = heaviest(frames).weight;
    this.frames = frames.map((frame) => this.frame(frame, moments[0], seek));
    $(".strip-query", this.element).textContent = query;
    $(".strip-score", this.element).textContent = `score ${score.toFixed(4)}`;
    $(".moments", this.element).append(...moments.map((moment) => this.chip(moment, seek)));
    const group = $(".frames", this.element);
    group.setAttribute("aria-label", `Attention of “${query}” to the frames`);
    group.style.setProperty("--mean", 1 / frames.length);
    group.append(...this.frames);
  }

  chip({ start_s, end_s, weight }, seek) {
    const label = `${range(start_s, end_s)} · ${percent(weight)}`;
    return button({ class: "moment", title: "Play this moment", click: () => seek(start_s, true) }, label);
  }

  frame({ time_s, weight, thumbnail: url }, moment, seek) {
    const inMoment = moment && time_s >= moment.start_s && time_s < moment.end_s;
    const bar = element("span", { class: "bar" });
    bar.style.setProperty("--weight", weight);
    return button(
      {
        class: inMoment ? "frame in-moment" : "frame",
        title: `${seconds(time_s)}, ${percent(weight, 1)}`,
        "aria-label": `${percent(weight, 1)} at ${seconds(time_s)}${inMoment ? ", in the moment" : ""}`,
        "data-time": time_s,
        "data-weight": weight,
        click: () => seek(time_s),
      },
      thumbnail(url),
      element("span", { class: "track" }, bar),
      element("span", { class: "percent" }, percent(weight)),
    );
  }

  // One tab stop a strip: twelve for each of ten cards would bury what follows them.
  mark(index, isShown) {
    this.frames.forEach((frame, i) => {
      frame.tabIndex = i === index ? 0 : -1;
      frame.ariaCurrent = isShown && i === index ? "true" : null;
    });
  }
}

class Card {
  constructor(result, query, note = `#${result.rank}`) {
    this.result = result;
    this.query = query;
    this.signal = currentSearch.signal;
    this.comparison = new AbortController();
    this.time = this.start = result.moments[0]?.start_s ?? result.start_s;
    this.poster = heaviest(result.frames).thumbnail;
    this.element = stamp("#card-template");
    this.playButton = this.$(".play");
    this.form = this.$(".compare-form");
    cards.set(this.element, this);
    this.fill(note);
    this.listen();
    this.showStrips(this.strip({ ...result, query }));
  }

  $(selector) {
    return $(selector, this.element);
  }

  fill(note) {
    const { video_id, score, duration_s, start_s, end_s, captions, num_captions, video } = this.result;
    this.element.dataset.videoId = video_id;
    this.element.setAttribute("aria-label", `${note}: ${video_id}`);
    this.$(".video-id").textContent = video_id;
    this.$(".rank").textContent = note;
    this.$(".score").textContent = score.toFixed(4);
    const isSegment = start_s > 0 || end_s < duration_s - 0.05;
    this.$(".extent").textContent = isSegment ? `${range(start_s, end_s)} of the file` : seconds(duration_s);

    this.playButton.prepend(thumbnail(this.poster));
    this.playButton.disabled = !video;
    this.playButton.setAttribute("aria-label", `Play from ${seconds(this.start)}: ${video_id}`);
    this.$(".play-label").textContent = seconds(this.start);
    if (!video) this.fail("The index has no file for this video.");

    this.$(".captions").hidden = !captions.length;
    const shown = captions.length < num_captions ? `, ${captions.length} shown` : "";
    this.$(".captions summary").textContent = `Captions of this video (${num_captions}${shown})`;
    this.$(".captions ul").append(...captions.map((caption) => element("li", {}, caption)));
  }

  listen() {
    const onClick = (selector, action) => this.$(selector).addEventListener("click", action);
    onClick(".play", () => this.seek(this.start, true));
    onClick(".compare", () => (this.form.hidden ? this.openCompare() : this.closeCompare()));
    onClick(".close", () => this.closeCompare());
    onClick(".similar", () => this.toggleList("similar", "/similar", (result) => this.similarVideo(result)));
    onClick(".fitting", () => this.toggleList("fitting", "/captions", (result) => this.fittingCaption(result)));
    this.form.addEventListener("submit", (event) => {
      event.preventDefault();
      this.compare($("input", this.form).value.trim());
    });
    this.element.addEventListener("keydown", ({ key }) => {
      if (key === "Escape" && !this.form.hidden) this.closeCompare();
    });
  }

  fail(...content) {
    const error = this.$(".card-error");
    error.replaceChildren(...content);
    error.hidden = !content.length;
  }

  // Undefined stands for an error, already shown, or an answer that nobody waits for any more.
  async ask(asker, path, parameters, signal = this.signal) {
    if (this.result.video) this.fail();
    asker.ariaBusy = "true";
    try {
      return await api(path, { video: this.result.video_id, ...parameters }, signal);
    } catch (error) {
      const wait = error.retryAfter ? ` Try again in ${error.retryAfter} s.` : "";
      if (!signal.aborted) this.fail(error.message + wait);
    } finally {
      asker.ariaBusy = null;
    }
  }

  load() {
    const video = element("video", {
      class: "player", controls: "", playsinline: "", preload: "metadata",
      src: this.result.video, poster: this.poster, "aria-label": this.result.video_id,
    });
    // The attribute mutes nothing when a script sets it.
    video.muted = true;
    video.addEventListener("loadedmetadata", () => (video.currentTime = this.time));
    video.addEventListener("timeupdate", () => this.mark(video.currentTime));
    video.addEventListener("error", () => {
      video.replaceWith(this.playButton);
      this.video = null;
      const link = element("a", { href: this.result.video, target: "_blank" }, "open it");
      this.fail("This browser cannot play the file; ", link, ".");
    });
    const hadFocus = this.playButton === document.activeElement;
    this.playButton.replaceWith(video);
    this.video = video;
    if (hadFocus) this.element.focus({ preventScroll: true });
  }

  seek(time, play = !this.video) {
    if (this.result.video && !this.video) this.load();
    this.mark(time);
    if (this.video?.readyState >= HTMLMediaElement.HAVE_METADATA) this.video.currentTime = time;
    // A browser that refuses to start by itself leaves the controls for it.
    if (play) this.video?.play().catch(() => {});
  }

  toggle() {
    if (this.video && !this.video.paused) this.video.pause();
    else this.seek(this.video?.ended ? this.start : this.time, true);
  }

  step(by) {
    const { frames } = this.result;
    const next = Math.min(Math.max(this.nearestFrame() + by, 0), frames.length - 1);
    this.video?.pause();
    this.seek(frames[next].time_s, false);
  }

  // A moment starts half-way between two frames: of these, the one inside it is meant.
  nearestFrame() {
    const distances = this.result.frames.map(({ time_s }) => Math.abs(time_s - this.time - 0.001));
    return distances.indexOf(Math.min(...distances));
  }

  mark(time) {
    this.time = time;
    for (const strip of this.strips) strip.mark(this.nearestFrame(), Boolean(this.video));
  }

  strip(attention) {
    return new Strip(attention, (time, play) => this.seek(time, play));
  }

  // Both strips share one scale: on a scale of its own, a flat attention looks as tall as a peaked one.
  showStrips(...strips) {
    this.strips = strips;
    const place = this.$(".strips");
    place.style.setProperty("--peak", Math.max(...strips.map(({ peak }) => peak)));
    place.replaceChildren(...strips.map((strip) => strip.element));
    this.mark(this.time);
  }

  openCompare() {
    const input = $("input", this.form);
    if (queryBox.maxLength > 0) input.maxLength = queryBox.maxLength;
    this.form.hidden = false;
    this.$(".compare").ariaExpanded = "true";
    input.focus();
  }

  closeCompare() {
    this.comparison.abort();
    this.showStrips(this.strips[0]);
    this.form.hidden = true;
    this.$(".compare").ariaExpanded = "false";
    this.element.focus({ preventScroll: true });
  }

  async compare(query) {
    if (!query) return;
    this.comparison.abort();
    this.comparison = new AbortController();
    const signal = AbortSignal.any([this.signal, this.comparison.signal]);
    const attention = await this.ask($(".primary", this.form), "/attention", { q: query }, signal);
    if (!attention) return;
    this.showStrips(this.strips[0], this.strip(attention));
    this.$(".card-note").textContent = `“${attention.query}” scores ${attention.score.toFixed(4)}.`;
  }

  async toggleList(name, path, entry) {
    const opener = this.$(`.${name}`);
    const section = this.$(`.${name}-list`);
    const list = $("ol", section);
    if (opener.ariaBusy) return;
    if (!list.hasChildNodes()) {
      const answer = await this.ask(opener, path, { k: RESULTS });
      if (!answer) return;
      list.append(...answer.results.map((result) => element("li", {}, entry(result))));
      if (!answer.results.length) list.append(element("li", {}, "None in this index."));
    }
    section.hidden = !section.hidden;
    opener.ariaExpanded = String(!section.hidden);
  }

  similarVideo(result) {
    return button(
      { click: ({ currentTarget }) => this.visit(currentTarget, result) },
      thumbnail(result.frames[Math.floor(result.frames.length / 2)].thumbnail),
      element("span", { class: "name" }, result.video_id),
      element("span", { class: "number" }, result.score.toFixed(4)),
    );
  }

  async visit(opener, result) {
    const findCard = () => [...results.children].find((card) => card.dataset.videoId === result.video_id);
    if (!findCard()) {
      const attention = await this.ask(opener, "/attention", { video: result.video_id, q: this.query });
      if (!attention) return;
      const card = new Card({ ...result, ...attention }, this.query, `similar to ${this.result.video_id}`);
      if (!findCard()) this.element.after(card.element);
    }
    focusCard(findCard());
  }

  fittingCaption({ caption, video_id, score }) {
    const origin = video_id === this.result.video_id ? "its own · " : "";
    return element(
      "span",
      { class: "line" },
      button({ title: "Search for this caption", click: () => go(caption) }, caption),
      element("span", { class: "number" }, origin + score.toFixed(4)),
    );
  }
}

function show(view) {
  for (const id of ["empty", "loading", "none", "error"]) $(`#${id}`).hidden = id !== view;
  results.ariaBusy = String(view === "loading");
}

function showError({ message, retryAfter = 0 }) {
  show("error");
  statusLine.textContent = "";
  $("#error-text").textContent = message;
  // The button counts, not the alert: a screen reader would read an alert again each second.
  const retry = $("#retry");
  let left = retryAfter;
  const tick = () => {
    retry.disabled = left > 0;
    retry.textContent = left > 0 ? `Retry in ${left} s` : "Retry";
    if (left-- <= 0) clearInterval(countdown);
  };
  countdown = setInterval(tick, 1000);
  tick();
}

function showAnswer({ num_videos, method, took_ms, answers }, query) {
  const found = answers[0].results;
  show(found.length ? null : "none");
  results.replaceChildren(...found.map((result) => new Card(result, query).element));
  statusLine.textContent = `${found.length} of ${num_videos.toLocaleString("en")} videos, ${Math.round(took_ms)} ms, ${method}`;
}

async function run() {
  const query = urlQuery();
  currentSearch.abort();
  currentSearch = new AbortController();
  const { signal } = currentSearch;
  clearInterval(countdown);
  queryBox.value = query;
  document.title = query ? `${query} – X-Pool search` : "X-Pool search";
  results.replaceChildren();
  statusLine.textContent = query ? "Searching…" : "";
  show(query ? "loading" : "empty");
  try {
    if (!query) return await loadHealth();
    // A search shows its answer whether or not /health has one.
    const health = loadHealth().catch(() => null);
    const answer = await api("/search", { q: query, k: RESULTS }, signal);
    showAnswer(answer, query);
    const recall = answer.method === "two-stage" ? (await health)?.recall_at_10 : null;
    if (recall != null && !signal.aborted) statusLine.textContent += `, recall@10 ${percent(recall, 1)} measured`;
  } catch (error) {
    if (!signal.aborted) showError(error);
  }
}

function go(query) {
  const address = query ? `?${new URLSearchParams({ q: query })}` : location.pathname;
  if (query !== urlQuery()) history.pushState(null, "", address);
  scrollTo(0, 0);
  run();
}

function focusCard(card) {
  card?.focus({ preventScroll: true });
  card?.scrollIntoView({ block: "start" });
  return Boolean(card);
}

// Says whether the key was used; what is not used keeps its meaning in the browser.
function press(key, target) {
  const shell = target.closest(".card");
  const card = cards.get(shell);
  const onCard = card && target === shell;
  const onFrame = card && target.matches(".frame");
  const neighbour = (by) => results.children[[...results.children].indexOf(shell) + by];
  if (key === "/") return queryBox.select(), queryBox.focus(), true;
  if (key === "?") return keysDialog.showModal(), true;
  if (key === "c" && card) return card.openCompare(), true;
  if (key === "j" || (key === "ArrowDown" && !target.matches("video"))) return focusCard(neighbour(1));
  if (key === "k" || (key === "ArrowUp" && !target.matches("video"))) return focusCard(neighbour(-1));
  if ((key === "Enter" || key === " ") && onCard) return card.toggle(), true;
  if ((key === "ArrowLeft" || key === "ArrowRight") && (onCard || onFrame)) {
    card.step(key === "ArrowLeft" ? -1 : 1);
    if (onFrame) $(".frame[tabindex='0']", target.closest(".frames")).focus();
    return true;
  }
  return false;
}

document.addEventListener("keydown", (event) => {
  const isModified = event.ctrlKey || event.metaKey || event.altKey || event.isComposing;
  if (isModified || keysDialog.open || event.target.matches("input, textarea")) return;
  if (press(event.key, event.target)) event.preventDefault();
});

// Media events do not bubble, so this one is caught on its way down.
document.addEventListener("play", ({ target }) => {
  for (const video of document.querySelectorAll("video.player")) if (video !== target) video.pause();
}, true);

$("#search").addEventListener("submit", (event) => {
  event.preventDefault();
  // On a phone this puts the keyboard away; elsewhere it lets the keys reach the results.
  queryBox.blur();
  go(queryBox.value.trim());
});
$("#retry").addEventListener("click", run);
$("#show-keys").addEventListener("click", () => keysDialog.showModal());
addEventListener("popstate", run);
run();
