// Controls from a JSON Schema: an enum named `effect` becomes pictures to click, numbers
// become sliders. `x-effect` ties a control to one or more effects.

const NOTHING_TOLD = "This model tells no parameters.";

export class Form {
  // `tiles` and `root` are where pictures and the other controls go.
  // onchange(values): only what has just been changed.
  constructor(tiles, root, onchange) {
    this.tiles = tiles;
    this.root = root;
    this.onchange = onchange;
    this.schema = null;
    this.values = {};
    this.pictures = {};
  }

  // Makes the controls.
  show(schema, values, pictures) {
    this.schema = schema;
    this.pictures = pictures;
    this.values = { ...defaults(schema), ...values };
    this.clear();
    if (schema === null) {
      this.root.append(element("p", { className: "soft", textContent: NOTHING_TOLD }), this.#free());
      return;
    }
    if (Object.keys(schema.properties ?? {}).length === 0) {
      this.root.append(element("p", { className: "soft", textContent: NOTHING_TOLD }));
      return;
    }
    const rest = element("div", { className: "sliders" });
    for (const [name, property] of Object.entries(schema.properties ?? {})) {
      if (isEffect(name, property)) this.tiles.append(this.#tiles(name, property));
      else rest.append(this.#control(name, property));
    }
    this.root.append(rest);
    this.#hideOthers();
  }

  clear() {
    this.tiles.replaceChildren();
    this.root.replaceChildren();
  }

  // Whether there is anything to set, or to say, beside the choice of a picture.
  get hasSettings() {
    return [...this.root.querySelectorAll("label, p")].some((part) => !part.hidden);
  }

  get hasDefaults() {
    return Object.keys(defaults(this.schema)).length > 0;
  }

  #holder(name) {
    const selector = `[data-name="${CSS.escape(name)}"]`;
    return this.tiles.querySelector(selector) ?? this.root.querySelector(selector);
  }

  // Values that came from elsewhere; what a finger is on stays.
  take(values) {
    for (const [name, value] of Object.entries(values)) {
      if (JSON.stringify(this.values[name]) === JSON.stringify(value)) continue;
      this.values[name] = value;
      const holder = this.#holder(name);
      if (holder !== null && !holder.contains(document.activeElement)) holder.write?.(value);
    }
    this.#hideOthers();
  }

  reset() {
    const all = defaults(this.schema);
    for (const name of Object.keys(all)) {
      if (isEffect(name, this.schema.properties[name]) || !this.#applies(name)) delete all[name];
    }
    this.values = { ...this.values, ...all };
    for (const [name, value] of Object.entries(all)) {
      this.#holder(name)?.write?.(value);
    }
    this.onchange(all);
  }

  #set(name, value) {
    this.values[name] = value;
    this.#hideOthers();
    this.onchange({ [name]: value });
  }

  #applies(name) {
    const wanted = this.schema.properties[name]["x-effect"];
    if (wanted === undefined) return true;
    return [wanted].flat().includes(this.values.effect);
  }

  #hideOthers() {
    for (const name of Object.keys(this.schema?.properties ?? {})) {
      const holder = this.#holder(name);
      if (holder !== null) holder.hidden = !this.#applies(name);
    }
  }

  // ------------------------------------------------------------------ kinds of controls

  #tiles(name, property) {
    const group = element("fieldset", { className: "tiles" });
    group.dataset.name = name;
    group.append(element("legend", { className: "off", textContent: property.title ?? name }));
    for (const [index, value] of property.enum.entries()) {
      const title = titleOf(property, value, index);
      const input = element("input", { type: "radio", name, value, checked: value === this.values[name] });
      input.addEventListener("change", () => this.#set(name, value));
      const picture = this.pictures[value];
      const face =
        picture === undefined
          ? element("span", { className: "blank", textContent: title.slice(0, 2), ariaHidden: "true" })
          : element("img", { src: picture, alt: "", width: 160, height: 100, decoding: "async" });
      const tile = element("label", { className: "tile" });
      tile.append(input, face, element("span", { textContent: title }));
      group.append(tile);
    }
    group.write = (value) => {
      for (const input of group.querySelectorAll("input")) input.checked = input.value === value;
    };
    return group;
  }

  #control(name, property) {
    if (property.enum !== undefined) return this.#choice(name, property);
    switch (property.type) {
      case "number":
      case "integer":
        return property.minimum !== undefined && property.maximum !== undefined
          ? this.#slider(name, property)
          : this.#text(name, property, Number);
      case "boolean":
        return this.#check(name, property);
      case "string":
        return this.#text(name, property, String);
      default:
        return this.#text(name, property, JSON.parse);
    }
  }

  #slider(name, property) {
    const { minimum, maximum } = property;
    const step =
      property.multipleOf ?? (property.type === "integer" ? 1 : niceStep((maximum - minimum) / 200));
    const told = element("span", { className: "value", ariaHidden: "true" });
    const input = element("input", { type: "range", min: minimum, max: maximum, step });
    const write = (value) => {
      input.value = value;
      told.textContent = Number(Number(value).toFixed(4));
    };
    write(this.values[name] ?? minimum);
    input.addEventListener("input", () => {
      told.textContent = Number(input.value);
      this.#set(name, Number(input.value));
    });
    return holder("slider", name, property, write, [told, input]);
  }

  #check(name, property) {
    const input = element("input", { type: "checkbox" });
    const write = (value) => (input.checked = Boolean(value));
    write(this.values[name]);
    input.addEventListener("change", () => this.#set(name, input.checked));
    const label = holder("check", name, property, write, []);
    label.prepend(input);
    return label;
  }

  #choice(name, property) {
    const select = element("select");
    for (const [index, value] of property.enum.entries()) {
      const option = element("option", { textContent: titleOf(property, value, index) });
      option.value = JSON.stringify(value);
      select.append(option);
    }
    const write = (value) => (select.value = JSON.stringify(value));
    write(this.values[name]);
    select.addEventListener("change", () => this.#set(name, JSON.parse(select.value)));
    return holder("field", name, property, write, [select]);
  }

  #text(name, property, parse) {
    const input = element("input", { type: property.format === "color" ? "color" : "text" });
    const write = (value) =>
      (input.value = typeof value === "string" ? value : JSON.stringify(value ?? ""));
    write(this.values[name] ?? "");
    input.addEventListener("change", () => {
      try {
        this.#set(name, parse(input.value));
        input.setCustomValidity("");
      } catch {
        input.setCustomValidity("This is no value of the right kind.");
        input.reportValidity();
      }
    });
    return holder("field", name, property, write, [input]);
  }

  // A model without a schema: its parameters as JSON.
  #free() {
    const area = element("textarea", { spellcheck: false, value: JSON.stringify(this.values, null, 2) });
    const label = element("label", { className: "field", textContent: "Parameters (JSON)" });
    label.append(area);
    area.addEventListener("change", () => {
      try {
        const value = JSON.parse(area.value);
        if (typeof value !== "object" || value === null || Array.isArray(value)) throw new TypeError();
        area.setCustomValidity("");
        this.values = value;
        this.onchange(value);
      } catch {
        area.setCustomValidity("Write one JSON object.");
        area.reportValidity();
      }
    });
    return label;
  }
}

// Sends changes on: at once, then at most every `interval` ms, one at a time, none lost.
export class Sender {
  constructor(send, interval = 50) {
    this.send = send;
    this.interval = interval;
    this.waiting = null;
    this.busy = false;
  }

  push(values) {
    this.waiting = { ...this.waiting, ...values };
    if (!this.busy) this.#run();
  }

  async #run() {
    this.busy = true;
    while (this.waiting !== null) {
      const values = this.waiting;
      this.waiting = null;
      const pause = new Promise((done) => setTimeout(done, this.interval));
      await this.send(values);
      await pause;
    }
    this.busy = false;
  }
}

// ------------------------------------------------------------------ pieces

function element(tag, properties = {}) {
  return Object.assign(document.createElement(tag), properties);
}

function holder(className, name, property, write, parts) {
  const label = element("label", { className });
  label.dataset.name = name;
  label.write = write;
  label.append(element("span", { textContent: property.title ?? name }), ...parts);
  if (property.description && className !== "check") {
    label.append(element("small", { textContent: property.description }));
  }
  return label;
}

export function defaults(schema) {
  const found = {};
  for (const [name, property] of Object.entries(schema?.properties ?? {})) {
    if (property.default !== undefined) found[name] = property.default;
  }
  return found;
}

const isEffect = (name, property) => name === "effect" && Array.isArray(property?.enum);

function titleOf(property, value, index) {
  const titles = property["x-title"] ?? {};
  const title = Array.isArray(titles) ? titles[index] : titles[value];
  if (title !== undefined) return title;
  const text = String(value).replaceAll(/[_-]/g, " ");
  return text.charAt(0).toUpperCase() + text.slice(1);
}

function niceStep(step) {
  const power = 10 ** Math.floor(Math.log10(step));
  return [1, 2, 5, 10].map((factor) => factor * power).find((nice) => nice >= step * 0.999);
}
