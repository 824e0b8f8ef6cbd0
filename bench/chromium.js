// What bench/chromium.py runs in its pages: the pages' own modules, with stamps on what
// happens. All times are milliseconds after the POST left.

async () => {
  const [{ publish }, { openCamera }, { Player }] = await Promise.all([
    import("/web/whip.js"),
    import("/web/source.js"),
    import("/web/whep.js"),
  ]);

  const made = []; // each connection of the modules, with its stamps
  window.RTCPeerConnection = class extends RTCPeerConnection {
    constructor(...given) {
      super(...given);
      const stamps = {};
      const note = (name) => (stamps[name] ??= performance.now());
      made.push({ pc: this, stamps });
      this.addEventListener("signalingstatechange", () => note(`signaling ${this.signalingState}`));
      this.addEventListener("iceconnectionstatechange", () => note(`ice ${this.iceConnectionState}`));
      this.addEventListener("connectionstatechange", () => note(this.connectionState));
    }
  };

  // The newest connection's moments, counted from its POST to `path`.
  function moments(path, more = {}) {
    const post = performance
      .getEntriesByType("resource")
      .filter(({ name, initiatorType }) => initiatorType === "fetch" && name.includes(path))
      .at(-1);
    const { stamps } = made.at(-1);
    const all = {
      answered: post.responseEnd,
      described: stamps["signaling stable"],
      checked: stamps["ice connected"] ?? stamps["ice completed"],
      connected: stamps.connected,
      ...more,
    };
    return Object.fromEntries(
      Object.entries(all).map(([name, at]) => [name, at === undefined ? null : at - post.startTime]),
    );
  }

  async function statistics(pc, type) {
    for (const told of (await pc.getStats()).values()) {
      if (told.type === type && told.kind === "video") return told;
    }
    return {};
  }

  const after = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));
  let stream = null;
  let session = null;
  let player = null;

  window.bench = {
    async camera() {
      stream = await openCamera({ deviceId: null, sound: true });
      const { width, height } = stream.getVideoTracks()[0].getSettings();
      return [width, height];
    },

    async publish(path) {
      performance.clearResourceTimings();
      await new Promise((done, failed) => {
        const onend = (reason) => failed(new Error(`the session ended: ${reason}`));
        publish(path, stream, { key: null, onend, onconnected: done }).then((opened) => {
          session = opened;
        }, failed);
      });
      await after(50); // the modules and the browser's own notes catch up
      return moments(path.split("?")[0]);
    },

    // Bits a second that left in the second that ends `seconds` after it was connected.
    async rate(seconds) {
      const { pc, stamps } = made.at(-1);
      await after(stamps.connected + (seconds - 1) * 1000 - performance.now());
      const before = await statistics(pc, "outbound-rtp");
      await after(stamps.connected + seconds * 1000 - performance.now());
      const now = await statistics(pc, "outbound-rtp");
      const bits = (now.bytesSent - before.bytesSent) * 8;
      return bits / ((now.timestamp - before.timestamp) / 1000);
    },

    async size(seconds) {
      const { pc, stamps } = made.at(-1);
      await after(stamps.connected + seconds * 1000 - performance.now());
      const told = await statistics(pc, "outbound-rtp");
      return [told.frameWidth, told.frameHeight, told.framesPerSecond, told.qualityLimitationReason];
    },

    async watch(path) {
      performance.clearResourceTimings();
      const video = document.createElement("video");
      video.muted = true;
      video.width = 640;
      document.body.prepend(video);
      player = new Player(path, video);
      const once = (type) => new Promise((done) => player.addEventListener(type, done, { once: true }));
      const lost = once("lost").then(({ detail }) => {
        throw new Error(`lost: ${detail.reason}`);
      });
      const seen = Promise.all([once("connected"), once("picture")]).then(() => performance.now());
      player.start();
      const picture = await Promise.race([seen, lost]);
      await after(50);
      return moments(path, { picture });
    },

    // What the viewer got in its first `seconds`.
    async seen(seconds) {
      const { stamps } = made.at(-1);
      await after(stamps.connected + seconds * 1000 - performance.now());
      const told = await statistics(player.pc, "inbound-rtp");
      return {
        freezes: told.freezeCount,
        frozen_s: told.totalFreezesDuration,
        lost: told.packetsLost,
        packets: told.packetsReceived,
        decoded: told.framesDecoded,
      };
    },

    async stop() {
      session?.close();
      player?.stop();
      player?.video.remove();
      session = player = null;
      await after(300); // the DELETE is answered
    },
  };
}
