// Keeps the order page up to date by long polling: the server answers when the order has a newer version than the page.
const page = document.getElementById("order");
const words = {
  WAITING: [t("confirming…"), "waiting", t("Waiting for Alipay to confirm your payment. This page updates by itself.")],
  PAID: [t("PAID"), "good", t("Thank you! Your pass is valid, and a copy is on its way to your phone.")],
  FINISHED: [t("PAID"), "good", t("Thank you! Your pass is valid, and a copy is on its way to your phone.")],
  CLOSED: [t("CLOSED"), "bad", t("This order was closed without a payment.")],
  REFUNDED: [t("REFUNDED"), "bad", t("The whole amount was refunded.")],
};
const put = (id, text) => { document.getElementById(id).textContent = text; };
const pause = (ms) => new Promise((done) => setTimeout(done, ms));

function show(order) {
  const refunded = order.refunded_minor > 0;
  const word = order.status === "CLOSED" && refunded ? "REFUNDED" : order.status;
  const [label, tone, sentence] = words[word] || words.WAITING;
  const status = document.getElementById("status");
  status.textContent = label;
  status.className = `pill ${tone}`;
  put("words", sentence);
  put("refunded", refunded ? `${order.currency} ${order.refunded}` : t("nothing"));
  put("version", String(order.version));
  document.getElementById("refund").hidden = tone !== "good" || refunded;
  const entries = order.timeline.map((entry) => {
    const item = document.createElement("li");
    const disposition = document.createElement("b");
    disposition.textContent = entry.disposition;
    const id = document.createElement("span");
    id.className = "mono";
    id.textContent = entry.notification_id;
    item.append(disposition, entry.reason ? ` (${entry.reason}) ` : " ", id);
    return item;
  });
  document.getElementById("timeline").replaceChildren(...entries);
  document.getElementById("story").hidden = entries.length === 0;
}

async function follow() {
  let version = 0;
  let backoff = 500;
  for (;;) {
    try {
      const path = `/shop/orders/${encodeURIComponent(page.dataset.order)}/state?version=${version}`;
      const answer = await fetch(path);
      if (!answer.ok) throw new Error(String(answer.status));
      const order = await answer.json();
      show(order);
      // Without this pause, an immediate answer with the same version would be requested again at once.
      if (order.version <= version) await pause(300);
      version = order.version;
      backoff = 500;
    } catch {
      await pause(backoff);
      backoff = Math.min(backoff * 2, 8000);
    }
  }
}

follow();
