// The page: time, the piano roll, controls.

const $ = id => document.getElementById(id);
const { pieces: PIECES, metal: METAL } = JSON.parse($('data').textContent);
const RULER = 24, AHEAD = 0.2;  // pixels; seconds
const BLACK = new Set([1, 3, 6, 8, 10]), IVORY = '#f4f2ec', EBONY = '#2b2d33', CRACK = '#c9c5ba';
const state = {
  piece: 0, playing: false, position: 0, tempo: 1, volume: 0.8, zoom: 60, muted: [], solo: [], scheduled: 0, drawn: 0,
};
let piece = PIECES[0], gutter = 46, audio = null, session = null, colours = {}, wanted = false;

// ---- time ----------------------------------------------------------------------------------------------------------

function now() {
  if (!session) return state.position;
  const passed = Math.max(audio.context.currentTime - session.at, 0);
  return Math.min(session.from + passed * session.speed, piece.end);
}

const heard = i => state.solo.some(Boolean) ? state.solo[i] : !state.muted[i];

/** How many of ascending times are not after t. */
function before(times, t) {
  let a = 0, b = times.length;
  while (a < b) {
    const middle = (a + b) >> 1;
    if (times[middle] <= t) a = middle + 1; else b = middle;
  }
  return a;
}

function play() {
  if (session || !piece.notes.start.length) return;
  if (!audio) { const context = new AudioContext(); audio = { context, input: room(context) }; }
  audio.context.resume();
  audio.input.gain.value = state.volume;
  if (state.position >= piece.end - 0.01) state.position = 0;
  const out = audio.context.createGain();
  out.connect(audio.input);
  const players = band(audio.context, piece, out), at = audio.context.currentTime + 0.08;
  session = { from: state.position, at, speed: state.tempo, out, band: players, next: 0 };
  state.playing = true; state.scheduled = 0;
  mix();
  session.timer = setInterval(schedule, 25);
  schedule();
  show();
}

/** Hands notes to the audio clock a little before they are due; those that sound already begin in their middle. */
function schedule() {
  const { notes } = piece, until = now() + AHEAD * session.speed;
  for (; session.next < notes.start.length && notes.start[session.next] <= until; session.next++) {
    const i = session.next, skip = Math.max(session.from - notes.start[i], 0);
    if (skip > 0 && (notes.ring[i] <= session.from + 0.02 || piece.tracks[notes.track[i]].drum)) continue;
    const when = session.at + Math.max(notes.start[i] - session.from, 0) / session.speed;
    sound(session.band, piece, i, when, skip, session.speed);
    state.scheduled++;
  }
  if (now() >= piece.end) {
    pause();
    if ($('loop').getAttribute('aria-pressed') === 'true') play();  // at its end a piece begins anew
  }
  show();
}

function pause() {
  if (!session) return;
  state.position = now();
  clearInterval(session.timer);
  const { out } = session, end = audio.context.currentTime;
  out.gain.setTargetAtTime(0, end, 0.03);
  setTimeout(() => out.disconnect(), 400);
  session = null; state.playing = false;
  show();
}

function seek(seconds) {
  const on = state.playing;
  pause();
  state.position = Math.min(Math.max(seconds, 0), piece.end);
  if (on) play();
  follow(true);
  show();
}

/** Opens or shuts each track as mute and solo say. */
function mix() {
  const gate = (track, i) => track.gain.gain.setTargetAtTime(heard(i) ? 1 : 0, audio.context.currentTime, 0.01);
  if (session) session.band.tracks.forEach(gate);
  document.querySelectorAll('.track').forEach((row, i) => row.classList.toggle('silent', !heard(i)));
  request();
}

// ---- the piano roll ------------------------------------------------------------------------------------------------

const box = $('roll'), canvas = $('canvas'), pen = canvas.getContext('2d');
const line = () => Math.min(Math.max(Math.floor((0.55 * innerHeight - RULER) / (piece.high - piece.low)), 6), 13);  // pixels
const across = t => gutter + t * state.zoom - box.scrollLeft, down = y => RULER + (piece.high - 1 - y) * line();
const request = () => { if (!wanted) { wanted = true; requestAnimationFrame(draw); } };

function paint() {
  const style = getComputedStyle(document.documentElement), tracks = Array.from({ length: 8 }, (_, i) => 'c' + i);
  for (const name of ['card', 'faint', 'rule', 'key', 'drum', ...tracks])
    colours[name] = style.getPropertyValue('--' + name).trim();
  request();
}

const colour = track => colours[piece.tracks[track].drum ? 'drum' : 'c' + track % 8];
const pitched = y => !(y in piece.drums) && y > piece.floor;

function fill(style, x, y, width, height, alpha = 1) {
  pen.globalAlpha = alpha;
  pen.fillStyle = style;
  pen.fillRect(x, y, width, height);
  pen.globalAlpha = 1;
}

function text(style, words, x, y, align) {
  pen.fillStyle = style;
  pen.textAlign = align;
  pen.fillText(words, x, y);
}

function draw() {
  wanted = false;
  const width = box.clientWidth, rows = piece.high - piece.low, bottom = RULER + rows * line(), dots = devicePixelRatio || 1;
  const height = bottom + 6, left = box.scrollLeft / state.zoom, right = (box.scrollLeft + width) / state.zoom, t = now();
  if (canvas.width !== Math.round(width * dots) || canvas.height !== Math.round(height * dots)) {
    canvas.width = Math.round(width * dots);
    canvas.height = Math.round(height * dots);
    canvas.style.width = width + 'px';
    canvas.style.height = height + 'px';
  }
  pen.setTransform(dots, 0, 0, dots, 0, 0);
  pen.textBaseline = 'middle';
  fill(colours.card, 0, 0, width, height);
  ruling(left, right, width, bottom);
  notes(left - gutter / state.zoom, right, t);
  keyboard(t, bottom);
  const x = Math.round(across(t));
  if (x < gutter - 1) return;
  fill(colours.c1, x, RULER - 8, 2, bottom - RULER + 8);
  pen.beginPath();
  for (const [dx, dy] of [[-5, -14], [7, -14], [1, -6]]) pen.lineTo(x + dx, RULER + dy);
  pen.fill();
}

/** Black keys' rows, beats, bar lines and their numbers, and above them what was given. */
function ruling(left, right, width, bottom) {
  for (let y = piece.low; y < piece.high; y++)
    if (pitched(y) && BLACK.has((y + 120) % 12)) fill(colours.key, gutter, down(y), width, line());
  for (const beat of state.zoom > 18 ? piece.beats : [])
    if (beat > left - 1 && beat < right) fill(colours.rule, Math.round(across(beat)), RULER, 1, bottom - RULER, 0.5);
  pen.font = '11px system-ui, sans-serif';
  const bars = piece.bars.length - 1, apart = state.zoom * piece.end / bars;
  const every = [1, 2, 4, 8, 16, 32].find(n => n * apart > 26) || 64;
  piece.bars.forEach((bar, i) => {
    if (bar < left - 1 || bar > right) return;
    const top = i % every ? RULER : RULER - 6;
    fill(colours.rule, Math.round(across(bar)), top, 1.5, bottom - top);
    if (i % every === 0 && i < bars) text(colours.faint, i + 1, across(bar) + 4, 10, 'left');
  });
  for (const [from, to] of piece.given) fill(colours.faint, across(from), RULER - 4, (to - from) * state.zoom - 2, 3, 0.55);
}

/** Rectangles, the stronger the louder: given ones as outlines, those that sound now lit. */
function notes(left, right, t) {
  const { start, end, velocity, track, given, line: lines } = piece.notes, height = line() - 2;
  state.drawn = 0;
  for (let i = before(start, left - piece.longest); i < start.length && start[i] <= right; i++) {
    if (end[i] < left) continue;
    const drum = piece.tracks[track[i]].drum, audible = heard(track[i]);
    const width = Math.max((drum ? 5 : (end[i] - start[i]) * state.zoom) - 1.2, 2);
    const lit = state.playing && audible && start[i] <= t && t < (drum ? start[i] + 0.12 : end[i]);
    const strength = (lit ? 1 : 0.42 + 0.5 * Math.min(velocity[i] / 100, 1)) * (audible ? 1 : 0.25);
    pen.fillStyle = pen.strokeStyle = colour(track[i]);
    pen.beginPath();
    pen.roundRect(across(start[i]), down(lines[i]) + 1, width, height, Math.min(3, width / 2, height / 2));
    pen.globalAlpha = given[i] ? strength * 0.28 : strength;
    pen.fill();
    pen.globalAlpha = strength;
    pen.lineWidth = lit ? 2.2 : 1;
    if (given[i] || lit) pen.stroke();
    state.drawn++;
  }
  pen.globalAlpha = 1;
}

/** Keys at the left, those that sound now coloured; drums by their names. */
function keyboard(t, bottom) {
  const { start, end, track, line: lines } = piece.notes, lit = {}, x = gutter - 24, height = line();
  for (let i = state.playing ? before(start, t - piece.longest) : start.length; i < start.length && start[i] <= t; i++)
    if (t < end[i] && heard(track[i])) lit[lines[i]] = colour(track[i]);
  fill(colours.card, 0, 0, gutter, bottom);
  pen.font = `${Math.min(height + 1, 10)}px system-ui, sans-serif`;
  for (let y = piece.low; y < piece.high; y++) {
    const top = down(y), black = BLACK.has((y + 120) % 12), seam = y % 12 === 0 || y % 12 === 5;
    if (y in piece.drums) text(lit[y] || colours.faint, piece.drums[y], gutter - 5, top + height / 2, 'right');
    if (!pitched(y)) continue;
    fill(!black && lit[y] || IVORY, x, top, 23, height);
    if (black) fill(lit[y] || EBONY, x, top, 14, height);
    if (seam) fill(CRACK, x, top + height - 1, 23, 1);
    if (y % 12 === 0) text(colours.faint, 'C' + (y / 12 - 1), x - 4, top + height / 2, 'right');
  }
  fill(colours.rule, gutter - 1, RULER, 1, bottom - RULER);
}

/** Keeps the playhead in sight. */
function follow(force) {
  const x = gutter + now() * state.zoom - box.scrollLeft, width = box.clientWidth;
  if (x > 0.9 * width || x < gutter || (force && x > 0.75 * width)) box.scrollLeft = now() * state.zoom - 0.15 * width;
}

// ---- the page ------------------------------------------------------------------------------------------------------

const clock = s => Math.floor(s / 60) + ':' + String(Math.floor(s % 60)).padStart(2, '0');

function show() {
  const t = now(), bar = Math.min(Math.max(before(piece.bars, t + 1e-4), 1), piece.bars.length - 1);
  $('time').textContent = clock(t);
  $('place').textContent = ` / ${clock(piece.end)} · bar ${bar} of ${piece.bars.length - 1}`;
  const range = $('seek');
  range.max = piece.end; range.value = t;
  range.setAttribute('aria-valuetext', `${clock(t)} of ${clock(piece.end)}, bar ${bar}`);
  const label = state.playing ? 'Pause' : 'Play';
  if ($('play').getAttribute('aria-label') !== label) {
    $('play').setAttribute('aria-label', label);
    $('shape').setAttribute('d', state.playing ? 'M4 3h4v14H4zM12 3h4v14h-4z' : 'M5 2.5v15l12-7.5z');
    $('status').textContent = state.playing ? 'playing' : 'paused';
  }
  if (state.playing) follow(false);
  request();
}

function choose(index) {
  pause();
  piece = PIECES[index];
  gutter = Object.keys(piece.drums).length ? 100 : 46;
  const none = () => piece.tracks.map(() => false);
  Object.assign(state, { piece: index, position: 0, muted: none(), solo: none(), scheduled: 0 });
  $('title').textContent = document.title = piece.title;
  $('facts').textContent = piece.facts;
  canvas.setAttribute('aria-label', `Piano roll: ${piece.facts}`);
  $('download').href = 'data:audio/midi;base64,' + piece.midi;
  $('download').download = piece.name;
  document.querySelectorAll('.pieces button').forEach((b, i) => b.setAttribute('aria-current', i === index));
  $('tracks').replaceChildren(...piece.tracks.map(row));
  $('given').hidden = !piece.notes.given.some(Boolean);
  $('made').hidden = !piece.made.length;
  $('made-rows').replaceChildren(...piece.made.map(words => {
    const row = document.createElement('tr');
    for (const word of words) row.insertCell().textContent = word;
    return row;
  }));
  box.scrollLeft = 0;
  zoom(Math.min(Math.max((box.clientWidth - gutter) / Math.max(piece.end, 1), 42), 160));
  mix(); show();
}

function row(track, i) {
  const div = document.createElement('div'), swatch = document.createElement('i'), name = document.createElement('span');
  div.className = 'track'; div.role = 'group'; div.ariaLabel = name.textContent = track.name;
  swatch.style.background = `var(--${track.drum ? 'drum' : 'c' + i % 8})`;
  div.append(swatch, name, ...['muted', 'solo'].map(kind => {
    const button = document.createElement('button');
    button.textContent = kind === 'muted' ? 'mute' : 'solo';
    button.ariaLabel = `${button.textContent} ${track.name}`; button.ariaPressed = 'false';
    button.onclick = () => toggle(kind, i);
    return button;
  }));
  return div;
}

function toggle(kind, i) {
  state[kind][i] = !state[kind][i];
  const buttons = document.querySelectorAll('.track')[i].querySelectorAll('button');
  buttons[kind === 'muted' ? 0 : 1].setAttribute('aria-pressed', state[kind][i]);
  mix();
}

function zoom(pixels, anchor = gutter) {
  const t = (box.scrollLeft + anchor - gutter) / state.zoom;
  state.zoom = Math.min(Math.max(pixels, 6), 600);
  $('space').style.width = gutter + piece.end * state.zoom + 30 + 'px';
  box.scrollLeft = t * state.zoom - anchor + gutter;
  request();
}

function tempo(value) {
  state.tempo = value; $('tempo').value = 100 * value; $('tempo-out').textContent = Math.round(100 * value) + ' %';
  if (state.playing) { pause(); play(); }
}

function volume(value) {
  state.volume = value; $('volume').value = 100 * value; $('volume-out').textContent = Math.round(100 * value) + ' %';
  if (audio) audio.input.gain.setTargetAtTime(value, audio.context.currentTime, 0.02);
}

/** To the next bar line, or back to this bar's, and from near that to the one before. */
function barwise(by) {
  const bar = before(piece.bars, now() + 1e-3) - 1, back = now() - piece.bars[bar] > 0.4 ? bar : bar - 1;
  seek(piece.bars[Math.min(Math.max(by > 0 ? bar + 1 : back, 0), piece.bars.length - 1)]);
}

const KEYS = {
  ' ': () => state.playing ? pause() : play(), Home: () => seek(0), End: () => seek(piece.end),
  ArrowLeft: () => barwise(-1), ArrowRight: () => barwise(1), '+': () => zoom(state.zoom * 1.25), '-': () => zoom(state.zoom / 1.25),
};

$('play').onclick = KEYS[' ']; $('start').onclick = KEYS.Home; $('in').onclick = KEYS['+']; $('out').onclick = KEYS['-'];
$('loop').onclick = () => $('loop').setAttribute('aria-pressed', $('loop').getAttribute('aria-pressed') !== 'true');
$('tempo').oninput = event => tempo(event.target.value / 100);
$('volume').oninput = event => volume(event.target.value / 100);
$('seek').oninput = event => seek(+event.target.value);
canvas.onclick = event => { const x = event.offsetX - gutter; if (x >= 0) seek((x + box.scrollLeft) / state.zoom); };
box.onscroll = request;
box.addEventListener('wheel', event => {
  if (!event.ctrlKey) return;
  event.preventDefault();
  zoom(state.zoom * Math.exp(-event.deltaY / 300), event.offsetX);
}, { passive: false });
document.addEventListener('click', event => {  // after a click with the mouse the space bar plays
  const button = event.detail && event.target.closest('button');
  if (button) button.blur();
});
document.addEventListener('keydown', event => {
  const range = event.target.matches('input'), own = event.target.matches('button, a, summary') && event.key === ' ';
  if (event.ctrlKey || event.metaKey || event.altKey || own || (range && event.key !== ' ')) return;
  if (KEYS[event.key]) { event.preventDefault(); KEYS[event.key](); }
  else if (/^[1-9]$/.test(event.key) && piece.tracks[event.key - 1]) toggle('muted', event.key - 1);
});
document.querySelectorAll('.pieces button').forEach((button, i) => button.onclick = () => choose(i));
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', paint);
new ResizeObserver(request).observe(box);

/** The sound of the first seconds, not heard but measured: {rms, peak}. */
async function render(seconds) {
  const context = new OfflineAudioContext(2, Math.ceil(seconds * 44100), 44100), out = context.createGain();
  out.connect(room(context));
  const players = band(context, piece, out);
  players.tracks.forEach((t, i) => t.gain.gain.value = heard(i) ? 1 : 0);
  piece.notes.start.forEach((at, i) => { if (at < seconds) sound(players, piece, i, at, 0, 1); });
  const samples = (await context.startRendering()).getChannelData(0), most = (a, x) => Math.max(a, Math.abs(x));
  return { rms: Math.sqrt(samples.reduce((sum, x) => sum + x * x, 0) / samples.length), peak: samples.reduce(most, 0) };
}

window.aurljax = { state, now, play, pause, seek, choose, toggle, tempo, volume, zoom, render };
paint(); choose(0); tempo(1); volume(0.8);
