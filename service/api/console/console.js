// The console asks this service alone.  What it says becomes text, never markup.

const { abs } = Math;
const { assign, create, entries, fromEntries, hasOwn, keys, values } = Object;
const encode = encodeURIComponent;
const find = selector => document.querySelector(selector);
const pause = seconds => new Promise(done => setTimeout(done, 1000 * seconds));
const count = length => [...Array(length).keys()];
const flat = value => [value].flat(Infinity);
// Names may be those that objects inherit, such as constructor.
const own = (object, name) => (hasOwn(object ?? {}, name) ? object[name] : undefined);
const line = (...parts) => parts.filter(Boolean).join(" · ");
const short = value => (typeof value === "number" ? `${+value.toPrecision(4)}` : `${value ?? "not a number"}`);

function h(tag, ...children) {
	const [name, ...classes] = tag.split(".");
	const made = document.createElement(name);
	made.className = classes.join(" ");
	if (children[0]?.constructor === Object) assign(made, children.shift());
	made.append(...children.flat().filter(Boolean).map(one => one.element ?? one));
	return made;
}

const button = (text, onclick, more) => h("button", { type: "button", onclick, ...more }, text);
const note = text => h("p.note", text);
const title = text => h("h1", { tabIndex: -1 }, text);

let token = ""; // in memory only
let asking;

// Send a request; ask for a token, unless for metrics.
async function ask(path, options = {}) {
	const used = token;
	const headers = { "Content-Type": "application/json", ...(used && { Authorization: `Bearer ${used}` }) };
	const response = await fetch(`../${path}`, { method: options.body ? "POST" : "GET", headers, ...options }).catch(() => {
		options.signal?.throwIfAborted();
		return Response.error();
	});
	if (response.ok) return response;
	const { status } = response;
	const { error = status ? `The status is ${status}.` : "The service does not answer.", problems } = (await response.json().catch(() => {})) ?? {};
	if (/40[13]/.test(status) && path !== "metrics") {
		find("#another").hidden = false;
		if (status === 401 && (token !== used || (await askToken(error)))) return ask(path, options);
	}
	const wait = status ? /429|503/.test(status) && +response.headers.get("Retry-After") : 3;
	throw assign(new Error(error), { problems, status, wait });
}

// JSON; whole numbers that would lose digits become texts.
const decode = text => JSON.parse(text, (_, value, at) => (Number.isSafeInteger(value) || !/^-?\d+$/.test(at?.source) ? value : at.source));
const get = async (path, options) => decode(await (await ask(path, options)).text());

async function predict({ version }, path, options) {
	const said = await get(`${path}/predict`, options);
	if (said.version !== version) throw new Error(`Version ${said.version} answers now.`);
	return said;
}

function askToken(why) {
	const [box, field] = [find("dialog"), find("#token")];
	find("#why").textContent = why;
	asking ??= new Promise(done => {
		box.onclose = () => {
			if (box.returnValue) token = field.value.trim();
			done(box.returnValue);
			field.value = box.returnValue = "";
			asking = undefined;
		};
		box.showModal();
	});
	return asking;
}

const another = async why => (await askToken(why)) && route();
find("#another").onclick = () => another("It replaces the one in use.");

const saved = (text, save, path) => h("a", { save, href: `../${path}` }, text);

// A link cannot carry a token: what it names is fetched and saved.
onclick = async e => {
	const link = e.target.closest("[href^='..']");
	if (!link || !token) return;
	e.preventDefault();
	try {
		const blob = await (await ask(link.getAttribute("href").slice(3))).blob();
		h("a", { href: URL.createObjectURL(blob), download: link.save ?? "openapi.json" }).click();
	} catch (error) {
		tell(error);
	}
};

// Views: #/ lists models; #/models/NAME, …/versions/1 or …/aliases/stable is one

const main = find("main");
let leave = new AbortController();
let shown;
let carried = {}; // the row for the next view

// A path here and in the service.
const pathOf = (name, which = "") => ["models", name, ...which.split("/").filter(Boolean)].map(part => encode(part.replace(/^\.\.?$/, "$&/"))).join("/");

function tell(error) {
	find(".banner")?.remove();
	if (!error) return;
	const { message, status } = error;
	main.prepend(h("p.card.banner", { role: "alert" }, message, " ", /40[13]/.test(status) && button("Use another token", () => another(message))));
}

async function route() {
	leave.abort();
	leave = new AbortController();
	const { signal } = leave;
	let [parts, failed] = [[title("No answer"), byName()]];
	try {
		const [path, query] = location.hash.slice(1).split("?");
		const [, kind, ...names] = path.split("/").map(decodeURIComponent);
		parts = await (kind === "models" && names[0] ? modelView : listView)(names, new URLSearchParams(query), signal);
	} catch (error) {
		failed = error;
	}
	if (signal.aborted) return;
	main.replaceChildren(...parts.filter(Boolean));
	tell(failed);
	document.title = `${find("h1").textContent} · Triceps`;
	if (shown) find("h1").focus();
	shown = true;
}

onhashchange = route;

const byName = () => h("form.row", {
	onsubmit(e) {
		e.preventDefault();
		location.hash = `/${pathOf(find("#name").value)}`;
	},
}, h("label", "Open a model by name ", h("input", { id: "name", required: true })), h("button", "Open"));

const SHARING = {
	rows: "batches requests",
	alone: "no batching",
	joint: "rows depend on each other",
	tensor: "whole tensors",
};

async function listView(_, query, signal) {
	const list = await get(`models?limit=100&after=${encode(query.get("after") ?? "")}`);
	const traffic = [];
	const cards = list.models.map(({ name, version, versions, aliases, heads, batching }) => {
		const link = (tag, which, text) => h(tag, { href: `#/${pathOf(name, which)}` }, text);
		const lately = note("\u00a0");
		traffic.push([name, lately]);
		return h("li.card",
			h("h2", link("a", "", name), name === list.default && h("span.note", " default")),
			h("p", line(...heads) || "not loaded"),
			h("p.row",
				entries(versions).map(([one, state]) => link("a.chip", `versions/${one}`, `${one} ${one === version ? "serves" : state}`)),
				entries(aliases).map(([alias, one]) => link("a.chip", `aliases/${alias}`, `${alias} → ${one}`))),
			batching && h("p.note", { title: batching.reason }, SHARING[batching.mode]),
			lately,
			saved("Signature", `${name}.json`, pathOf(name)));
	});
	watchTraffic(traffic, signal);
	return [
		title("Models"),
		cards.length ? h("ul.cards", cards) : h("p", "No model serves."),
		list.next && h("a", { href: `#/?after=${encode(list.next)}` }, `More, after ${list.next}`),
		list.refused.length > 0 && h("section.card", h("h2", "Refused"), h("ul", list.refused.map(({ name, version, reason }) =>
			h("li", h("b", line(name, version && `version ${version}`)), `: ${reason}`)))),
		byName(),
	];
}

async function watchTraffic(places, signal) {
	const series = /^triceps_(requests_total|stage_seconds_sum)\{.*?model="([^"]*)".*\} (\S+)$/gm;
	let first;
	let polls = 0;
	for (; !signal.aborted; await pause(++polls < 2 ? 2 : 10)) {
		if (document.hidden) continue;
		const metrics = await ask("metrics", { signal }).then(said => said.text()).catch(() => {});
		if (!metrics) return; // the token may not see them
		const last = { at: Date.now() / 60000 };
		for (const [, family, model, value] of metrics.matchAll(series)) last[family + model] = (last[family + model] ?? 0) + +value;
		first ??= last;
		for (const [name, place] of first === last ? [] : places) {
			const [asked, seconds] = ["requests_total", "stage_seconds_sum"].map(what => last[what + name] - (first[what + name] ?? 0));
			place.textContent = asked > 0 ? `${short(asked / (last.at - first.at))} requests a minute · ${short((1000 * seconds) / asked)} ms` : "no requests lately";
		}
		if (last.at - first.at > 5) first = last;
	}
}

// The form.  A field has a place in the request, `at`, and can `read`, `write` and `say`.

let fields = 0;

const dropped = ({ dataTransfer }, kind) => [...dataTransfer.files].find(({ name, type }) => kind.test(`${type} ${name}`));

// A text as a value of a dtype, if it is one.
function parse(text, dtype) {
	const bare = text.trim().toLowerCase();
	if (dtype === "string") return text;
	if (/^(true|false)$/.test(bare)) return bare === "true";
	return /^[-+.\de]+$/.test(bare) && abs(+bare) < (dtype.includes("int") ? 2 ** 53 : Infinity) ? +bare : text;
}

function asJson(text) {
	try {
		return decode(text);
	} catch {
		return text;
	}
}

const range = ({ min, max }) => min != null && `${short(min)} to ${short(max)} in training`;
const hintOf = facts => line(range(facts), facts.vocabulary && `${facts.vocabulary.length} texts in training`,
	facts.default != null && `default ${short(facts.default)}`) || facts.dtype;

function frame(at, label, hint, control, ...more) {
	control.id = `f${++fields}`;
	const hinted = h("p.note", { id: `${control.id}-note` }, hint);
	control.setAttribute("aria-describedby", hinted.id);
	const element = h("div.field", h("label", { htmlFor: control.id }, label), control, more, hinted);
	const say = (text, kind = "") => {
		hinted.textContent = text || hint;
		element.dataset.kind = kind;
		control.ariaInvalid = kind === "problem";
	};
	return { at, element, say };
}

function textField(at, facts) {
	const { name, dtype, min, max } = facts;
	const whole = [min, max, facts.default ?? min].every(Number.isInteger);
	const control = h("input", { autocomplete: "off", oninput: () => slider && (slider.value = control.value) });
	const slider = max > min && h("input", { type: "range", min, max, ariaLabel: `${name}, slider`,
		step: whole ? 1 : (max - min) / 100, oninput: () => (control.value = short(+slider.value)) });
	const empty = dtype === "string" && facts.default === undefined ? "" : undefined;
	const read = () => (control.value === "" ? empty : parse(control.value, dtype));
	return {
		...frame(at, name, hintOf(facts), control, slider),
		read,
		write(value) {
			control.value = value ?? "";
			if (slider) slider.value = value ?? facts.default ?? facts.mean;
		},
		odd: () => (read() < min || read() > max) && `outside of ${range(facts)}`,
	};
}

function choiceField(at, facts) {
	const { name, vocabulary } = facts;
	const known = vocabulary ?? [true, false];
	const other = h("input", { ariaLabel: `${name}, another text` });
	const control = h("select", { oninput: () => other.focus() },
		known.map((text, i) => new Option(text, i)),
		vocabulary && new Option("other…", "other"), new Option("missing", ""));
	return {
		...frame(at, name, hintOf(facts), control, other),
		read: () => (control.value === "other" ? other.value : known[control.value]),
		write(value) {
			const i = known.indexOf(value);
			control.value = i >= 0 ? i : value === undefined || !vocabulary ? "" : "other";
			other.value = value ?? "";
		},
	};
}

function jsonField(at, { name, dtype, shape }) {
	const control = h("textarea", { rows: 4 });
	return {
		...frame(at, name, `JSON, ${dtype} ${shape.map(axis => axis ?? "any").join(" × ")}`, control),
		read: () => (control.value ? asJson(control.value) : undefined),
		write: value => (control.value = JSON.stringify(value) ?? ""),
	};
}

function imageField(at, facts) {
	const { name, min: low = 0, max: high = 255, size: [height, width, channels = 1] } = facts;
	const pad = h("canvas", { width, height, tabIndex: 0, role: "img", ariaLabel:
		`${name}: draw by pointer, or by arrow keys; the space bar puts the pen down and up` });
	const over = h("canvas.over", { width, height, ariaHidden: "true" });
	const pen = pad.getContext("2d", { willReadFrequently: true });
	let [from, pixels, down] = [[width / 2, height / 2]];
	const put = value => {
		pixels = flat(value);
		const rgba = Uint8ClampedArray.from({ length: 4 * width * height }, (_, i) =>
			i % 4 === 3 ? 255 : (255 * (pixels[(i >> 2) * channels + ((i % 4) % channels)] - low)) / (high - low));
		pen.putImageData(new ImageData(rgba, width), 0, 0);
	};
	const draw = action => {
		action();
		const { data } = pen.getImageData(0, 0, width, height);
		put(pixels.map((_, i) => {
			const rgb = data.subarray(4 * Math.floor(i / channels));
			const tone = channels === 1 ? 0.299 * rgb[0] + 0.587 * rgb[1] + 0.114 * rgb[2] : rgb[i % channels];
			const value = low + (tone / 255) * (high - low);
			return high > 16 ? Math.round(value) : +short(value);
		}));
		pad.dispatchEvent(new Event("input", { bubbles: true }));
	};
	const move = (to, inked) => {
		if (inked) draw(() => {
			assign(pen, { lineWidth: Math.max(1, width / 12), lineCap: "round", strokeStyle: ink.value });
			pen.stroke(new Path2D(`M${from}L${to}`));
		});
		from = to;
	};
	pad.onpointerdown = pad.onpointermove = ({ type, buttons, pointerId, offsetX, offsetY }) => {
		const to = [offsetX, offsetY].map(one => (one * width) / pad.clientWidth);
		if (type === "pointerdown") {
			pad.setPointerCapture(pointerId);
			from = to;
		}
		move(to, buttons);
	};
	pad.onkeydown = e => {
		const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1], " ": [0, 0] }[e.key];
		if (!step) return;
		e.preventDefault();
		down ^= e.key === " ";
		move(from.map((one, axis) => one + step[axis]), down);
	};
	const take = async file => {
		if (!file) return;
		try {
			const picture = await createImageBitmap(file, { resizeWidth: width, resizeHeight: height, resizeQuality: "high" });
			draw(() => (put(blank(high)), pen.drawImage(picture, 0, 0))); // on white
		} catch {
			field.say(`${file.name} is no picture`, "problem");
		}
	};
	const blank = (tone = low) => Array(width * height * channels).fill(tone);
	const ink = h("input", { type: "color", value: "#ffffff", ariaLabel: `${name}, ink` });
	const file = h("input", { type: "file", accept: "image/*", hidden: true, onchange: () => take(file.files[0]) });
	const field = frame(at, name, line("draw, or drop a picture", `${width} × ${height}`, range(facts) || `${low} to ${high}`), pad, over, h("div.row", ink, button("Clear", () => draw(() => put(blank()))),
		button("Invert", () => draw(() => put(pixels.map(value => low + high - value)))), button("A picture…", () => file.click()), file));
	field.element.ondrop = e => take(dropped(e, /^image\//));
	return {
		...field,
		read: () => pixels,
		write: value => put(Array.isArray(value) ? value : blank()),
		explain(parts, head) {
			const brush = over.getContext("2d"), patches = parts.filter(([part]) => part.startsWith(`${name}[`));
			const most = Math.max(...patches.map(([, value]) => abs(value)));
			brush.clearRect(0, 0, width, height);
			if (patches[0]) field.say(`blue raises ${head}, orange lowers it`);
			for (const [part, value] of patches) {
				const [top, bottom, left, right] = part.match(/\d+(?=[:,\]])/g).slice(-4);
				brush.fillStyle = value > 0 ? "#46f" : "#f80";
				brush.globalAlpha = (0.75 * abs(value)) / most || 0;
				brush.fillRect(left, top, right - left, bottom - top);
			}
		},
	};
}

const step = name => (/^[a-z_][\w-]*$/i.test(name) ? `.${name}` : `[${JSON.stringify(name)}]`);

function formOf(input, entry, at) {
	const { features, kind, shape, size } = entry;
	const image = kind === "image" && [1, 3].includes(size[2] ?? 1);
	const list = !features && !image && shape.length === 1 && shape[0] <= 16 && shape[0];
	const facts = features ?? count(list || 1).map(i => ({ ...entry, name: list > 1 ? `${i}` : input }));
	const parts = facts.map((one, i) => {
		const make = image ? imageField : shape?.length && !list ? jsonField : one.vocabulary || one.dtype === "bool" ? choiceField : textField;
		return make(features ? at + step(one.name) : list ? `${at}[${i}]` : at, one);
	});
	const read = () => parts.map(part => part.read());
	return {
		input,
		parts,
		element: h(`fieldset.card.${features || list > 1 ? "" : "one"}`, h("legend", input), parts),
		read: () => (features ? fromEntries(read().map((value, i) => [facts[i].name, value])) : list ? read() : read()[0]),
		write: row => parts.forEach((part, i) => part.write(
			(features || list ? own(row, Array.isArray(row) ? i : facts[i].name) : row) ?? undefined)),
	};
}

const MOST = 12;

// A label, its share of the longest bar, and its value; a mark stands at the threshold.
const barOf = (label, value, share, kind = "", threshold, title = "", more) => h(`li.${kind}`, h("span", label),
	share != null && h("span.track", h("i", { style: `--share: ${share}` }), threshold != null && h("b", { style: `--share: ${threshold}` })), h("span.value", { title }, value), more);

// With `changed`, the head can be ticked off and asked why.
function headCard(name, head, { batching }, changed) {
	const { dtype, labels, kind, shape, threshold } = head;
	const tick = changed && h("input", { type: "checkbox", checked: true });
	const why = changed && batching.mode !== "tensor" && dtype !== "string" && (!shape.length || (kind === "multiclass" && labels)) && button("Why?", () => {
		why.ariaPressed = why.ariaPressed === "false";
		changed();
	}, { ariaPressed: "false", ariaLabel: `Why? ${name}` });
	const names = labels ?? (shape.length ? count(shape.length === 1 && shape[0] <= MOST ? shape[0] : 0) : ["value"]);
	const [bars, parts, about] = ["ul.bars", "ul.bars", "p.note"].map(tag => h(tag));
	bars.append(...names.slice(0, MOST).map(text => barOf(`${text}`, "\u00a0", labels && 0))); // room for an answer
	const rest = names.length === 0 && h("pre", { tabIndex: 0, ariaLabel: `${name}, values` });
	const element = h("section.card",
		h("div.row", h("h2", tick ? h("label", tick, " ", name) : name), h("span.note", kind), why),
		bars, rest, note(line(range(head), names.length > MOST && `${MOST} of ${names.length} labels`)), about, parts);
	return {
		element,
		tick,
		why,
		// Show an answer; return whether the label differs.
		show({ value, label }, base) {
			const all = one => (kind === "binary" && labels ? [one === null ? one : 1 - one, one] : flat(one));
			const [now, before] = [all(value), base && all(base.value)];
			const order = [...names.keys()].sort((one, two) => names.length > MOST && now[two] - now[one]);
			bars.replaceChildren(...order.slice(0, MOST).map(i => {
				const one = now[i];
				const by = before && one - before[i];
				const said = [(labels && one <= 1 && one?.toFixed(3)) || short(one),
					abs(by) > 1e-6 * abs(one) && h("ins", ` ${by > 0 ? "+" : "−"}${short(abs(by))}`)];
				return barOf(`${names[i]}`, said, labels && one / Math.max(1, ...now),
					labels && flat(label).includes(names[i]) ? "picked" : "", threshold, one);
			}));
			if (rest) rest.textContent = JSON.stringify(value);
			return element.classList.toggle("differs", base != null && `${base.label}` !== `${label}`);
		},
		explain(found) {
			const listed = entries(found?.parts ?? {}).filter(([part]) => !/\[\d+:\d+,\d+:\d+\]$/.test(part)).sort(([, a], [, b]) => abs(b) - abs(a)).slice(0, MOST);
			parts.replaceChildren(...listed.map(([part, value]) => barOf(part, `${value > 0 ? "+" : ""}${short(value)}`,
				abs(value / (listed[0][1] || 1)), value < 0 ? "lowers" : "")));
			about.textContent = found ? `${line(found.label, short(found.answer))}; ${short(found.reference)} at the reference, a row of defaults. Each feature adds:` : "";
		},
	};
}

// What the service says of something, in its words.
const saidOf = facts => line(...entries(facts).map(([key, value]) => /string|number/.test(typeof value) && `${key.replaceAll("_", " ")} ${short(value)}`));

// A bar is a share of rows, or PSI as a share of twice its bound.
const findingOf = ({ feature, head = feature, psi, labels_differ: value = psi, verdict, ...facts }) => barOf(head, short(value ?? ""),
	value && value / (facts.bound ?? 0.5) / 2, verdict === "drift" ? "lowers" : "", verdict && 0.5, "", note(line(verdict, saidOf(facts))));

// A page of findings about a model, asked for whenever it is opened.
function findings(name, path) {
	const found = h("div");
	const show = ({ features = [], heads, ...page }) => found.replaceChildren(note(saidOf({ ...page.seconds, ...page })),
		h("ul.bars", [...features, ...entries(heads).map(([head, facts]) => ({ head, ...facts }))].map(findingOf)));
	const element = h("details.card", { ontoggle: () => element.open && get(path).then(show, ({ message }) => found.replaceChildren(message)) },
		h("summary", name), found);
	return element;
}

const expectation = ({ expected, received }) => `expected ${expected}, received ${received}`;
const called = which => which.replace(/(es|s)\//, " ") || "serving";

async function modelView([name, kind, version], query, signal) {
	const which = version ? `${kind}/${version}` : "";
	const beside = query.get("with") || "";
	let [timer, busy, stale] = [];
	const changed = () => {
		clearTimeout(timer);
		timer = setTimeout(answer, 150);
	};
	const sides = [];
	for (const one of beside ? [which, beside] : [which]) {
		const [path, cards] = [pathOf(name, one), create(null)];
		const model = await get(path, { signal });
		for (const [head, facts] of entries(model.heads)) cards[head] = headCard(head, facts, model, !sides.length && changed);
		sides.push({ path, cards, model, element: h("div.side", beside && h("h2", called(one), h("span.note", ` ${model.version}`)), values(cards)) });
	}
	const [{ model, path, cards: controls }] = sides;
	const { heads, batching: { mode }, traffic = {} } = model;
	const whole = mode === "tensor";
	const forms = entries(model.inputs).map(([input, entry]) => formOf(input, entry, (whole ? "inputs" : "instances[0]") + step(input)));
	const every = forms.flatMap(form => form.parts);
	const fill = row => forms.forEach(({ input, write }) => write(own(row, input)));
	const read = (some = forms) => fromEntries(some.map(({ input, read }) => [input, read()]));
	const example = model.example?.instances?.[0] ?? model.example?.inputs ?? {};
	fill(query.has("row") ? decode(query.get("row")) : carried.name === name ? carried.row : example);
	carried = {};

	const asked = () => keys(heads).filter(head => controls[head].tick.checked);
	const needed = () => forms.filter(({ input }) => asked().some(head => heads[head].inputs.includes(input)));
	const status = h("output.summary", "\u00a0");
	const [code, showCode] = codeCard();

	// Ask until answers are of the form, one at a time.
	async function answer() {
		stale = true;
		if (busy) return;
		for (busy = true; stale && !signal.aborted; ) {
			stale = false;
			await once().catch(failed);
		}
		busy = false;
	}

	async function failed(error) {
		if (signal.aborted) return;
		const { message, problems = [], wait } = error;
		if (!mark(problems)) tell(error);
		status.classList.add("off");
		status.value = line(message, wait && `asks again in ${wait} s`);
		if (wait) await pause(wait);
		stale ||= wait;
	}

	// Say something at a field; return whether there is one.
	function sayAt(at, text, kind = "mark") {
		const field = every.find(field => field.at === at) ?? every.find(field => at.startsWith(field.at) || field.at.startsWith(at));
		field?.say(text, kind);
		return field;
	}

	// Show problems at fields; return whether all are.
	function mark(problems) {
		for (const { say, odd } of every) say(odd?.(), odd?.() && "mark");
		const marked = problems.map(({ at, ...problem }) => sayAt(at, expectation(problem), "problem"));
		return marked.length > 0 && marked.every(Boolean);
	}

	async function once() {
		const some = needed();
		for (const form of forms) form.element.hidden = !some.includes(form);
		for (const head in heads) controls[head].element.classList.toggle("off", !controls[head].tick.checked);
		if (!some.length) return void (status.value = "Tick a head");
		const row = read(some);
		let [first, differing] = [undefined, 0];
		for (const { path, cards, model } of sides) {
			const known = asked().filter(head => cards[head]);
			const explain = known.filter(head => controls[head].why.ariaPressed === "true");
			const body = JSON.stringify({
				...(whole ? { inputs: row } : { instances: [row] }),
				...(known.length < keys(cards).length && { heads: known }),
				...(explain.length && { explain: { heads: explain } }),
			});
			if (!first) showCode(`${path}/predict`, body);
			const said = await predict(model, path, { body, signal });
			const { explanations: why = {}, ...answers } = said.predictions?.[0] ?? fromEntries(known.map(head => [head, { value: said.outputs[head], label: own(said.labels, head) }]));
			for (const head of known) {
				differing += cards[head].show(answers[head], first?.[head]);
				cards[head].explain(own(why, head));
			}
			if (first) continue;
			first = answers;
			status.classList.remove("off");
			tell();
			mark([]);
			for (const { at, value } of said.imputed ?? []) sayAt(at, `missing: ${short(value)} was used`);
			for (const { at } of said.unseen ?? []) sayAt(at, "training never saw this text");
			for (const field of every) field.explain?.(entries(why[explain.at(-1)]?.parts ?? {}), explain.at(-1));
		}
		status.value = line(...entries(first).map(([head, { value, label }]) =>
			`${head}: ${label === undefined ? short(flat(value)[0]) : flat(label).join(", ") || "none"}`), beside && `${differing} labels differ`);
	}

	const share = e => {
		const row = encode(JSON.stringify(read()));
		history.replaceState(null, "", `#/${path}?${beside && `with=${encode(beside)}&`}row=${row}`);
		copy(location.href, e);
	};
	const others = ["versions", "aliases"].flatMap(kind => keys(model[kind]).map(one => `${kind}/${one}`));
	const choice = (id, label, none, chosen) => [h("label", { htmlFor: id }, label), h("select", { id, onchange() {
		carried = { name, row: read() };
		const [one, other] = [find("#which").value, find("#beside").value];
		location.hash = `/${pathOf(name, one)}${other && `?with=${encode(other)}`}`;
	} }, new Option(none, ""), others.map(one => new Option(called(one), one, false, one === chosen)))];
	const exact = pathOf(name, `versions/${model.version}`);
	answer();
	return [
		title(name),
		h("p.row", line(`version ${model.version}, ${SHARING[mode]}`, ...entries(traffic).map(([role, part]) => `${role} ${saidOf(part)}`)), saved("Signature", `${name}.json`, path),
			model.reports?.includes(model.version) && saved("Report", `${name}.html`, `${exact}/report`)),
		...(model.warnings ?? []).map(({ head, message }) => h("p.card.warning", line(head, message))),
		h("div.row", button("Example", () => (fill(example), changed())), button("Empty", () => (fill({}), changed())),
			button("Copy a link", share), choice("which", "Version", "serving", which), choice("beside", "Compare with", "nothing", beside)),
		h(`div.try.${beside && "two"}`, { oninput: changed }, h("div.inputs", forms), status, h("div.answers", sides)),
		/rows|alone/.test(mode) && csvCard(model, path, asked, needed, signal),
		code,
		traffic.shadow && findings("Shadow", `${pathOf(name)}/compare`),
		model.drift && findings("Drift", `${exact}/drift`),
	];
}

async function copy(text, { target }) {
	const { clipboard } = navigator; // none without TLS
	await clipboard?.writeText(text);
	target.textContent = clipboard ? "Copied" : "Copy by hand";
}

function codeCard() {
	const texts = ["curl", "Python"].map(name => h("pre", { tabIndex: 0, ariaLabel: name }));
	const element = h("details.card", h("summary", "This request as curl and Python"), texts.flatMap(text =>
		[button(`Copy ${text.ariaLabel}`, e => copy(text.textContent, e)), text]));
	const show = (path, body) => {
		const url = new URL(`../${path}`, location).href.replaceAll("'", "%27");
		texts[0].textContent = `curl -sS '${url}' ${token && '-H "Authorization: Bearer $TOKEN" '}-H 'Content-Type: application/json' -d @- <<'ROW'\n${body}\nROW\n`;
		texts[1].textContent = `${token && "import os\n"}import requests\n\nanswer = requests.post(\n    "${url}",\n` +
			`    headers={"Content-Type": "application/json"${token && ', "Authorization": "Bearer " + os.environ["TOKEN"]'}},\n` +
			`    data=r"""${body}""".encode(),\n)\nprint(answer.json())\n`;
	};
	return [element, show];
}

// A CSV, read as by `triceps predict`.

function cellOf(text, { dtype, key }) {
	if (/^(N\/?A|NaN|nan|null|NULL|)$/.test(text)) return null;
	if (key === undefined && text.startsWith("[")) return asJson(text);
	if (dtype === "bool" && /^[01]$/.test(text)) return text === "1";
	const value = parse(text, dtype);
	return dtype !== "bool" && typeof value === "boolean" ? +value : value;
}

// Records, with their lines and shares of the text.
function* records(text) {
	const cell = / *(?:"([^"]*(?:""[^"]*)*)" *|([^",\r\n][^,\r\n]*)?)(,|\r?\n)/y;
	let [record, begun, number] = [[], 1, 1];
	while (cell.lastIndex < text.length) {
		const found = cell.exec(text);
		if (!found) throw new Error(`line ${number}: not CSV`);
		record.push((found[1]?.replaceAll('""', '"') ?? found[2] ?? "").trim());
		number += found[0].split("\n").length - 1;
		if (found[3] === ",") continue;
		yield [record, begun, cell.lastIndex / text.length];
		[record, begun] = [[], number];
	}
}

const product = shape => shape.reduce((one, two) => one * two, 1);

// Columns that name no part of an input stay texts.
function columnsOf(header, inputs) {
	const [full, bare] = [new Map(), new Map()];
	for (const [input, { features = [], shape, dtype }] of entries(inputs)) {
		const add = (name, key, dtype) => full.set(name, { name, input, key, dtype });
		for (const { name, dtype } of features) {
			add(`${input}.${name}`, name, dtype);
			bare.set(name, bare.has(name) ? undefined : full.get(`${input}.${name}`));
		}
		if (!shape) continue;
		add(input, undefined, dtype);
		for (let key = 0; key < product(shape); key++) add(`${input}.${key}`, key, dtype);
	}
	const columns = header.map(name => full.get(name) ?? bare.get(name) ?? name);
	const twice = header.find((_, i) => columns.indexOf(columns[i]) < i);
	if (twice != null) throw new Error(`line 1: expected ${twice} once`);
	return columns;
}

const columnsFor = (head, { shape, labels }, size = product(shape)) => [
	...(size ? count(size).map(i => [shape.length ? `${head}.${i}` : head, answer => flat(answer[head].value)[i]])
		: [[head, answer => JSON.stringify(answer[head].value)]]),
	...(labels ? [[`${head}.label`, answer => flat(answer[head].label).join("|")]] : []),
];
const quoted = cells => `${cells.map(cell => (/[",\r\n]/.test(cell) ? `"${cell.replaceAll('"', '""')}"` : cell)).join()}\n`;

function csvCard(model, path, asked, needed, signal) {
	const { inputs, heads } = model;
	const chosen = h("input", { type: "file", accept: ".csv", onchange: () => start(chosen.files[0]) });
	const allow = h("input", { type: "checkbox" });
	const bar = h("progress", { value: 0, hidden: true, ariaLabel: "Scored" });
	const [status, made, wrong] = ["output", "p", "ul"].map(tag => h(tag));
	let job = new AbortController();

	async function start(file) {
		if (!file) return;
		job.abort();
		job = new AbortController();
		const cut = AbortSignal.any([signal, job.signal]);
		const names = asked();
		const answers = names.flatMap(head => columnsFor(head, heads[head]));
		const out = [];
		let [rows, refused, piece] = [0, 0, []];
		async function send() {
			const sent = piece.filter(row => !row.reason);
			if (!sent.length) return pause(0);
			const body = JSON.stringify({ heads: names, instances: sent.map(row => row.instance) });
			try {
				const { predictions } = await predict(model, path, { body, signal: cut });
				predictions.forEach((answer, i) => (sent[i].answer = answer));
			} catch (error) {
				const bad = error.problems?.filter(({ at }) => at.startsWith("instances[")) ?? [];
				if (!error.wait && !bad.length) throw error;
				await pause(error.wait || 0);
				for (const { at, ...problem } of bad) sent[at.match(/\d+/)].reason ??= `${at.replace(/^.*?\]\.?/, "")}: ${expectation(problem)}`;
				await send();
			}
		}
		async function flush(share) {
			cut.throwIfAborted();
			await send();
			for (const { answer, begun, others, reason } of piece) {
				out.push(quoted([...others, ...answers.map(([, of]) => (answer ? of(answer) : ""))]));
				if (reason && ++refused <= 20) wrong.append(h("li", `line ${begun}: ${reason}`));
			}
			rows += piece.length;
			[piece, bar.value] = [[], share];
			status.value = line(`${rows} rows`, refused && `${refused} refused`);
		}
		wrong.replaceChildren();
		made.replaceChildren(button("Cancel", () => job.abort()));
		bar.hidden = false;
		try {
			const text = new TextDecoder("utf-8", { fatal: true }).decode(await file.arrayBuffer());
			const lines = records(text.replace(/\n?$/, "\n"));
			const [header] = lines.next().value ?? [[]];
			const columns = columnsOf(header, inputs);
			const othersOf = record => columns.flatMap(({ input }, i) => (input ? [] : [record[i] ?? ""]));
			const got = columns.flatMap(({ name, input }) => [name, input]);
			const absent = needed().flatMap(({ input }) => inputs[input].features?.map(({ name }) => `${input}.${name}`) ?? input).filter(name => !got.includes(name));
			if (absent.length && !allow.checked) throw new Error(`line 1: expected a column for ${absent.join(", ")}, received none`);
			const prefix = answers.some(([name]) => othersOf(header).includes(name)) ? "predicted." : "";
			out.push(quoted([...othersOf(header), ...answers.map(([name]) => `${prefix}${name}`)]));
			for (const [record, begun, share] of lines) {
				const row = { begun, others: othersOf(record), instance: create(null) };
				if (record.length !== columns.length) row.reason = `expected ${columns.length} cells, as the header has, received ${record.length}`;
				else for (const [i, column] of columns.entries()) {
					const { input, key } = column;
					if (!input) continue;
					const place = key === undefined ? row.instance : (row.instance[input] ??= typeof key === "number" ? [] : create(null));
					place[key ?? input] = cellOf(record[i], column);
				}
				if (piece.push(row) >= Math.min(256, 5e4 / columns.length)) await flush(share);
			}
			await flush(1);
		} catch (error) {
			if (cut.aborted && !job.signal.aborted) return;
			status.value = line(`${rows} rows`, cut.aborted ? "cancelled" : error instanceof TypeError ? "expected UTF-8" : error.message);
		}
		made.replaceChildren(rows ? h("a", { href: URL.createObjectURL(new Blob(out)), download: "answers.csv" }, "Save the answers") : "");
	}

	addEventListener("drop", e => start(dropped(e, /csv$/i)), { signal });
	return h("section.card.csv", h("h2", "Score a CSV"), h("label", "Drop one here, or choose it ", chosen),
		h("label", allow, " missing columns take their defaults"), bar, status, made, wrong);
}

ondragover = ondrop = e => e.preventDefault();
route();
