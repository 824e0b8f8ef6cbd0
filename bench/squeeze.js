// What bench/squeeze.py runs in a viewer's page: the studio's own player behind a narrow link,
// and what the browser says of it, ten times a second.

async () => {
  const { Player } = await import("/web/whep.js");
  const set = RTCPeerConnection.prototype.setRemoteDescription;
  RTCPeerConnection.prototype.setRemoteDescription = async function ({ type, sdp }) {
    return set.call(this, { type, sdp: await window.through(sdp) });
  };
  let player = null;
  let lost = null;
  let timer = null;
  const samples = [];

  async function sample() {
    let video = {};
    let audio = {};
    for (const told of (await player.pc.getStats()).values()) {
      if (told.type === "inbound-rtp" && told.kind === "video") video = told;
      if (told.type === "inbound-rtp" && told.kind === "audio") audio = told;
    }
    samples.push({
      at: Date.now() / 1000,
      pictures: video.framesDecoded ?? 0,
      frozen: video.totalFreezesDuration ?? 0,
      sound: audio.totalSamplesReceived ?? 0,
      concealed: audio.concealedSamples ?? 0,
      asked: video.pliCount ?? 0,
    });
  }

  window.squeeze = {
    async watch(path) {
      const video = document.createElement("video");
      video.muted = true;
      video.width = 640;
      document.body.prepend(video);
      player = new Player(path, video);
      player.addEventListener("lost", ({ detail }) => (lost = detail.reason));
      const seen = new Promise((done) => player.addEventListener("picture", done, { once: true }));
      player.start();
      await seen;
      timer = setInterval(sample, 100);
    },

    told() {
      return { lost, samples };
    },

    stop() {
      clearInterval(timer);
      player.stop();
      player.video.remove();
    },
  };
}
