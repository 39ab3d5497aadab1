// Sound in the browser: oscillators with the harmonics of each instrument's family, noise for drums; no sample, no network.

/** Nodes that play one piece into `out` of an audio context, each track through a gain of its own. */
function band(context, piece, out) {
  const noise = context.createBuffer(1, context.sampleRate, context.sampleRate), samples = noise.getChannelData(0);
  let seed = 1;
  for (let i = 0; i < samples.length; i++) samples[i] = ((seed = (seed * 48271) % 2147483647) / 2147483647) * 2 - 1;
  const tracks = piece.tracks.map((track, i) => {
    const gain = context.createGain(), pan = context.createStereoPanner(), n = Math.max(piece.tracks.length - 1, 1);
    pan.pan.value = piece.tracks.length > 1 ? 0.6 * (2 * i / n - 1) : 0;
    let last = gain;
    for (const [hertz, width, strength] of track.timbre.formants) {  // a throat
      const filter = context.createBiquadFilter();
      Object.assign(filter, { type: 'peaking' });
      filter.frequency.value = hertz; filter.Q.value = hertz / (2 * width); filter.gain.value = 14 * strength;
      last = last.connect(filter);
    }
    last.connect(pan).connect(out);
    return { gain, wave: track.drum ? null : wave(context, track.timbre) };
  });
  return { context, noise, tracks };
}

function wave(context, timbre) {
  const imag = new Float32Array(33);
  for (let k = 1; k < imag.length; k++) imag[k] = Math.pow(k, -timbre.slope - 0.15) * (k > 1 && k % 2 ? timbre.odd : 1);
  return context.createPeriodicWave(new Float32Array(imag.length), imag);
}

/** Lets note i sound from `when` on, `skip` seconds into it, all `speed` times as fast. */
function sound(band, piece, i, when, skip, speed) {
  const notes = piece.notes, context = band.context, at = notes.track[i], track = piece.tracks[at], bus = band.tracks[at];
  const loud = Math.pow(notes.velocity[i] / 127, 1.5), envelope = context.createGain();
  envelope.connect(bus.gain);
  if (track.drum) return drum(band, notes.pitch[i], loud, when, envelope);
  const t = track.timbre, held = Math.max((notes.ring[i] - notes.start[i] - skip) / speed, 0.03);
  const peak = 0.11 * loud * Math.pow(2, (60 - notes.pitch[i]) / 60), attack = Math.min(t.attack, held);
  const end = when + held, gain = envelope.gain, voices = Math.min(t.voices, 2);
  const fade = t.fade ? t.fade / Math.pow(2, (notes.pitch[i] - 60) / 24) : 0;
  gain.setValueAtTime(0, when);
  gain.linearRampToValueAtTime(peak, when + attack);
  if (fade) gain.setTargetAtTime(0, when + attack, fade);
  gain.setTargetAtTime(0, end, t.release / 3);
  for (let v = 0; v < voices; v++) {
    const oscillator = context.createOscillator();
    oscillator.setPeriodicWave(bus.wave);
    oscillator.frequency.value = 440 * Math.pow(2, (notes.pitch[i] - 69) / 12);
    oscillator.detune.value = 7 * (v - (voices - 1) / 2);
    oscillator.connect(envelope);
    oscillator.start(when);
    oscillator.stop(end + 2 * t.release);
  }
}

function drum(band, pitch, loud, when, out) {
  const { context, noise } = band, ring = METAL[pitch], snare = pitch >= 37 && pitch <= 40;
  if (ring || snare) {
    const source = context.createBufferSource(), filter = context.createBiquadFilter();
    source.buffer = noise; source.loop = true;
    filter.type = ring ? 'highpass' : 'bandpass'; filter.frequency.value = ring ? 7000 : 1800; filter.Q.value = 0.6;
    source.connect(filter).connect(out);
    source.start(when, (pitch * 0.0137) % 1); source.stop(when + Math.max(5 * (ring || 0.1), 0.3));
  }
  if (!ring) {
    const tone = context.createOscillator(), low = pitch < 37 ? 50 : snare ? 180 : 80 + 6 * (pitch - 41);
    tone.frequency.setValueAtTime(1.8 * low, when); tone.frequency.exponentialRampToValueAtTime(low, when + 0.07);
    tone.connect(out); tone.start(when); tone.stop(when + 0.6);
  }
  out.gain.setValueAtTime((ring ? 0.15 : 0.4) * loud, when);
  out.gain.setTargetAtTime(0, when + 0.005, ring || 0.1);
}

/** A limiter and a small room before the loudspeaker; returns what to play into. */
function room(context) {
  const input = context.createGain(), limiter = context.createDynamicsCompressor(), hall = context.createConvolver();
  const wet = context.createGain(), length = Math.round(1.2 * context.sampleRate);
  const answer = context.createBuffer(2, length, context.sampleRate);
  let seed = 7;
  for (let side = 0; side < 2; side++) {
    const samples = answer.getChannelData(side);
    for (let i = 0, smooth = 0; i < length; i++) {
      smooth += 0.35 * (((seed = (seed * 48271) % 2147483647) / 2147483647) * 2 - 1 - smooth);
      samples[i] = smooth * Math.exp(-i / (0.22 * context.sampleRate));
    }
  }
  hall.buffer = answer; wet.gain.value = 0.3; limiter.threshold.value = -12;
  input.connect(limiter); input.connect(hall).connect(wet).connect(limiter); limiter.connect(context.destination);
  return input;
}
