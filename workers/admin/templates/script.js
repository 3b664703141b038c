// Keeps the page up to date: polls for changes, fetches the page again, and swaps in its live parts. Forms stay.
"use strict";

const live = document.getElementById("live");
let seen = Number(document.body.dataset.seen);

const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const keysOf = (root) => new Set([...root.querySelectorAll("[data-key]")].map((row) => row.dataset.key));

// A length of time, as `workers.admin.page_times.span` has it.
function span(seconds) {
  for (const [unit, size, least] of [[t("{count} d"), 86400, 172800], [t("{count} h"), 3600, 3600], [t("{count} min"), 60, 60]]) {
    if (seconds < least) continue;
    const count = seconds / size;
    return filled(unit, { count: (size >= 3600 && count < 10) ? Math.floor(count * 10) / 10 : Math.floor(count) });
  }
  return t("{count} s", { count: Math.max(0, Math.floor(seconds)) });
}

// How long ago a moment was, as `workers.admin.page_times.ago` has it.
function ago(seconds) {
  if (seconds < 1) return seconds < -1 ? t("in the future") : t("now");
  return t("{span} ago", { span: span(seconds) });
}

function tick() {
  for (const time of document.querySelectorAll("time[data-ago], time[data-since]")) {
    const seconds = (Date.now() - new Date(time.dateTime)) / 1000;
    const text = "since" in time.dataset ? span(seconds) : ago(seconds);
    if (time.textContent !== text) time.textContent = text;
  }
}

async function redraw(parts = "[data-live]") {
  const answer = await fetch(location.href, { headers: { Accept: "text/html" } });
  if (!answer.ok) return;
  const page = new DOMParser().parseFromString(await answer.text(), "text/html");
  showZones(page);
  for (const part of document.querySelectorAll(parts)) {
    const fresh = page.getElementById(part.id);
    if (!fresh || fresh.isEqualNode(part)) continue;
    const known = keysOf(part);
    const picked = new Set([...part.querySelectorAll("input[name=id]:checked")].map((box) => box.value));
    for (const box of fresh.querySelectorAll("input[name=id]")) box.checked = picked.has(box.value);
    for (const row of fresh.querySelectorAll("[data-key]")) row.classList.toggle("new", !known.has(row.dataset.key));
    part.replaceWith(document.adoptNode(fresh));
  }
}

async function follow() {
  for (;;) {
    try {
      const answer = await fetch(`/api/changes?seen=${seen}&wait=20s`);
      if (!answer.ok) throw new Error(String(answer.status));
      const now = (await answer.json()).seen;
      live.textContent = t("live");
      live.classList.remove("off");
      if (now !== seen) {
        seen = now;
        // A page without live parts has only the notices, which can wait: fetching it costs the server more.
        if (!document.querySelector("main [data-live]")) await pause(15000);
        await redraw();
        await pause(400);
      } else {
        await redraw("#notices");
        await pause(400);
      }
    } catch {
      live.textContent = t("not connected");
      live.classList.add("off");
      await pause(2000);
    }
  }
}

// The operator's name, if the token has none: given once, it stands in every form until the browser's window is closed.
sessionStorage.removeItem("token"); // of an earlier release
const nameOf = (form) => form.elements.namedItem("by");
const fill = (form) => { if (nameOf(form)) nameOf(form).value = sessionStorage.getItem("by") || ""; };
const keep = (form) => { if (nameOf(form)) sessionStorage.setItem("by", nameOf(form).value); };

// Sends a write. The browser adds the operator's token, by which it is signed in.
const post = (path, body) => fetch(path, { method: "POST", cache: "no-store", headers: { "Content-Type": "application/json" }, body: JSON.stringify(body) });
// The name that the page shows: if another tab has signed in as another operator meanwhile, the server refuses the write.
const shownName = () => document.body.dataset.operator ?? sessionStorage.getItem("by") ?? "";
const actOf = (form) => ({ reason: form.elements.namedItem("reason").value, by: shownName() });
const refusalOf = (answer, result) => (answer.status === 401 ? t("You are not signed in. Load the page anew, and sign in.") : said(result.detail));

function decide(form) {
  fill(form);
  form.addEventListener("submit", async (submit) => {
    submit.preventDefault();
    const verb = submit.submitter.value;
    const output = form.querySelector("output");
    if (verb === "discard" && !confirm(t("Discard this notification? This is final."))) return;
    const amount = verb === "refund-outside" ? form.elements.namedItem("amount").value.trim() : "";
    if (verb === "refund-outside" && !amount) return void (output.textContent = t("Enter the amount that was refunded."));
    if (amount && !confirm(t("You say that {amount} was refunded in Alipay's own portal. This is final.", { amount }))) return;
    if (verb === "accept" && !confirm(t("Accept this notification? What it reports becomes the order's amount and payment."))) return;
    keep(form);
    const more = amount ? { amount } : verb === "snooze" ? { until: form.elements.namedItem("until").value } : {};
    output.textContent = "…";
    try {
      const answer = await post(`/api/held/${encodeURIComponent(form.dataset.held)}/${verb}`, { ...more, ...actOf(form) });
      const result = await answer.json();
      output.textContent = !answer.ok ? refusalOf(answer, result) : verb === "snooze" ? t("Snoozed.") : verb === "unsnooze" ? t("The snooze has ended.") : result.resolution ? t("Resolved: {resolution}.", { resolution: w(result.resolution) }) : t("Still {disposition}: {detail}.", { disposition: w(result.disposition), detail: said(result.detail) });
      if (answer.ok && result.resolution) for (const button of form.querySelectorAll("button")) button.disabled = true;
      if (answer.ok) await redraw();
    } catch {
      output.textContent = t("The server does not answer, so the outcome is unknown. Reload the page before you try again.");
    }
  });
}

// Shows what a task would go through, as the server draws it. Resolves to that, or to null if the operator goes back.
async function previewed(wanted, output) {
  const answer = await post("/held/preview", wanted);
  if (!answer.ok) return void (output.textContent = refusalOf(answer, await answer.json()));
  const shown = new DOMParser().parseFromString(await answer.text(), "text/html").getElementById("previewed");
  const dialog = document.getElementById("preview");
  dialog.firstElementChild.replaceChildren(document.adoptNode(shown));
  showZones(dialog);
  const typed = dialog.querySelector("input[name=typed]");
  if (typed) typed.addEventListener("input", () => { dialog.querySelector("button[value=go]").disabled = typed.value.replace(/[,\s]/g, "") !== shown.dataset.total; });
  dialog.returnValue = "";
  dialog.showModal();
  await new Promise((resolve) => dialog.addEventListener("close", resolve, { once: true }));
  return dialog.returnValue === "go" ? { total: Number(shown.dataset.total), before: shown.dataset.before } : null;
}

// Starts a task over the selected ones, or over all that match, after its preview. It goes on without this page.
function decideMany(form) {
  const output = form.querySelector("output");
  const field = (name) => form.elements.namedItem(name);
  fill(form);

  form.addEventListener("submit", async (submit) => {
    submit.preventDefault();
    const isAll = "all" in submit.submitter.dataset;
    const boxes = [...document.querySelectorAll("input[name=id]:checked")];
    if (!isAll && !boxes.length) return void (output.textContent = t("Select at least one in the list."));
    const rows = isAll ? JSON.parse(form.dataset.filter) : { ids: boxes.map((box) => box.value) };
    const wanted = { ...rows, action: submit.submitter.value, rate: Number(field("rate").value) };
    keep(form);
    for (const button of form.querySelectorAll("button[name]")) button.disabled = true;
    output.textContent = "…";
    let isSent = false;
    try {
      const preview = await previewed(wanted, output);
      if (!preview) {
        if (output.textContent === "…") output.textContent = t("Nothing was changed.");
        return;
      }
      isSent = true;
      const answer = await post("/api/held/tasks", { ...wanted, ...(isAll && preview.before ? { before: preview.before } : {}), ...actOf(form) });
      const result = await answer.json();
      const started = answer.ok && t("Task {id} over {total} has started. It goes on without this page.", { id: result.id, total: result.total });
      const changed = answer.ok && result.total !== preview.total ? ` ${t("They were {count} before: others have changed some meanwhile.", { count: preview.total })}` : "";
      output.textContent = answer.ok ? started + changed : refusalOf(answer, result);
      if (answer.ok && !isAll) for (const box of [...boxes, document.getElementById("all")]) if (box) box.checked = false;
    } catch {
      output.textContent = isSent ? t("The server does not answer, so it is unknown whether the task has started. Look at the tasks above.") : t("The server does not answer.");
    } finally {
      for (const button of form.querySelectorAll("button[name]")) button.disabled = false;
    }
    await redraw().catch(() => {});
  });
}

async function switchReplay(button) {
  const shown = document.getElementById("switched");
  try {
    const answer = await post(`/api/held/tasks/${encodeURIComponent(button.dataset.replay)}/${button.dataset.verb}`, { by: shownName() });
    shown.textContent = answer.ok ? "" : refusalOf(answer, await answer.json());
    await redraw();
  } catch {
    shown.textContent = t("The server does not answer, so the outcome is unknown.");
  }
}

async function copy(button) {
  const url = new URL(button.dataset.copy, location.href).href;
  const link = "plain" in button.dataset ? button.dataset.copy : "curl" in button.dataset ? `curl '${url}'` : url;
  try {
    await navigator.clipboard.writeText(link);
    button.textContent = t("Copied");
  } catch {
    prompt(t("The link"), link); // without https, browsers give pages no clipboard
  }
}

// Verifies one notification by the keys of now; the outcome stands below the button.
async function verify(button) {
  const shown = button.closest("div").querySelector("output");
  try {
    const answer = await fetch(`/api/notifications/${encodeURIComponent(button.dataset.verify)}/raw`);
    const result = await answer.json();
    const told = answer.ok ? result.signature : { authentic: false, detail: result.detail };
    shown.textContent = told.authentic ? t("The signature is valid, verified now with key {key}.", { key: told.key_id }) : t("The signature is not valid: {why}", { why: said(told.detail) });
    shown.className = `verdict ${told.authentic ? "good" : "bad"}`;
  } catch {
    shown.textContent = t("The server does not answer.");
  }
}

// Shows the bytes and fields with personal data, until the page is loaded anew.
function reveal(form) {
  fill(form);
  form.addEventListener("submit", async (submit) => {
    submit.preventDefault();
    const output = form.querySelector("output");
    keep(form);
    output.textContent = "…";
    try {
      const answer = await post(`/api/notifications/${encodeURIComponent(form.dataset.reveal)}/reveal`, actOf(form));
      const result = await answer.json();
      if (!answer.ok) return void (output.textContent = refusalOf(answer, result));
      const text = [...atob(result.body_base64)].map((each) => (each >= " " && each <= "~" ? each : `\\x${each.charCodeAt(0).toString(16).padStart(2, "0")}`)).join("");
      const raw = document.querySelector("pre.raw");
      raw.textContent = text;
      raw.closest("details").open = true;
      document.getElementById("size").textContent = text.length.toLocaleString("en");
      for (const row of document.querySelectorAll("#fields tr")) {
        const value = result.fields[row.cells[0].textContent];
        if (value !== undefined) row.cells[1].textContent = value;
      }
      output.textContent = t("Revealed, and recorded.");
    } catch {
      output.textContent = t("The server does not answer, so it is unknown whether this was recorded.");
    }
  });
}

// Erases the buyer's data from the order's stored notifications, for good.
function erase(form) {
  fill(form);
  form.addEventListener("submit", async (submit) => {
    submit.preventDefault();
    const output = form.querySelector("output");
    if (!confirm(t("Erase the personal data of {order}? It does not come back, and its notifications can no longer be verified.", { order: form.dataset.order }))) return;
    keep(form);
    const button = form.querySelector("button");
    button.disabled = true;
    output.textContent = "…";
    try {
      const answer = await post(form.dataset.erase, actOf(form));
      const result = await answer.json();
      button.disabled = answer.ok && !result.more && !result.held.length;
      if (!answer.ok) return void (output.textContent = refusalOf(answer, result));
      output.textContent = [
        t("Erased from {count}, and recorded.", { count: result.erased }),
        ...(result.held.length ? [t("{ids} are held, and keep theirs until they are resolved.", { ids: result.held.join(", ") })] : []),
        ...(result.more ? [t("Some are left: erase again.")] : []),
      ].join(" ");
    } catch {
      output.textContent = t("The server does not answer, so it is unknown whether anything was erased. Load the page anew.");
      button.disabled = false;
      return;
    }
    await redraw().catch(() => {});
  });
}

document.addEventListener("click", (click) => {
  const verified = click.target.closest("button[data-verify]");
  if (verified) verify(verified);
  const copied = click.target.closest("button[data-copy]");
  if (copied) copy(copied);
  const button = click.target.closest("button[data-replay]");
  if (button) switchReplay(button);
});
document.addEventListener("change", (change) => {
  if (change.target.id === "all") for (const box of document.querySelectorAll("input[name=id]")) box.checked = change.target.checked;
});
for (const form of document.querySelectorAll("form.decide[data-held]")) decide(form);
for (const form of document.querySelectorAll("form[data-reveal]")) reveal(form);
for (const form of document.querySelectorAll("form[data-erase]")) erase(form);
for (const form of document.querySelectorAll("form#many")) decideMany(form);
if (document.getElementById("replays")) setInterval(() => { if (!document.hidden && document.querySelector(".replays .running")) redraw().catch(() => {}); }, 1000);
setInterval(() => { if (!document.hidden) tick(); }, 5000);
if (document.getElementById("curves")) setInterval(() => { if (!document.hidden) redraw().catch(() => {}); }, 4000);
follow();
