// Where the picture comes from: a camera, or a clip that the streamer has.

export async function openCamera({ deviceId, sound }) {
  if (navigator.mediaDevices?.getUserMedia === undefined) throw named("Insecure");
  const video = {
    width: { ideal: 1280 },
    height: { ideal: 720 },
    frameRate: { ideal: 30, max: 30 },
    ...(deviceId ? { deviceId: { exact: deviceId } } : {}),
  };
  try {
    return await navigator.mediaDevices.getUserMedia({ video, audio: sound });
  } catch (error) {
    // Without a microphone, or without leave to use it, the picture is still worth having.
    if (!sound || !["NotFoundError", "NotAllowedError"].includes(error.name)) throw error;
    if (error.name === "NotAllowedError" && (await cameraDenied())) throw error;
    return navigator.mediaDevices.getUserMedia({ video, audio: false });
  }
}

export async function cameras() {
  const all = (await navigator.mediaDevices?.enumerateDevices?.()) ?? [];
  return all.filter(({ kind, deviceId }) => kind === "videoinput" && deviceId !== "");
}

async function cameraDenied() {
  try {
    return (await navigator.permissions.query({ name: "camera" })).state === "denied";
  } catch {
    return true; // a browser that does not tell: do not ask twice
  }
}

// Plays the clip in `video`, over and over, and gives its stream.
export async function openClip(file, video, sound) {
  const address = URL.createObjectURL(file);
  video.srcObject = null;
  video.src = address;
  video.loop = true;
  video.muted = true;
  try {
    await video.play();
  } catch (error) {
    URL.revokeObjectURL(address);
    throw error;
  }
  const stream = capture(video);
  if (!sound) for (const track of stream.getAudioTracks()) stream.removeTrack(track);
  if (stream.getVideoTracks().length === 0) throw named("NoVideo");
  return {
    stream,
    close() {
      for (const track of stream.getTracks()) track.stop();
      video.pause();
      video.removeAttribute("src");
      video.load();
      URL.revokeObjectURL(address);
    },
  };
}

function capture(video) {
  if (video.captureStream) return video.captureStream();
  if (video.mozCaptureStream) return video.mozCaptureStream();
  return throughCanvas(video); // Safari
}

function throughCanvas(video) {
  const canvas = document.createElement("canvas");
  const context = canvas.getContext("2d");
  const draw = () => {
    if (video.videoWidth > 0) {
      if (canvas.width !== video.videoWidth) canvas.width = video.videoWidth;
      if (canvas.height !== video.videoHeight) canvas.height = video.videoHeight;
      context.drawImage(video, 0, 0);
    }
    if (video.hasAttribute("src")) video.requestVideoFrameCallback(draw);
  };
  canvas.width = video.videoWidth || 1280;
  canvas.height = video.videoHeight || 720;
  draw();
  return canvas.captureStream(30);
}

function named(name) {
  return Object.assign(new Error(name), { name });
}
