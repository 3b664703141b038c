// Keeps the order page true: asks for anything newer than what is shown, and shows it. The answer waits at the other
// end until there is news, so the page changes when the payment does and the network stays quiet in between.
const page = document.getElementById("order");
const words = {
  WAITING: ["confirming…", "waiting", "Waiting for Alipay’s word on your payment. This page changes by itself."],
  PAID: ["PAID", "good", "Thank you! Your pass is valid, and a copy is on its way to your phone."],
  FINISHED: ["PAID", "good", "Thank you! Your pass is valid, and a copy is on its way to your phone."],
  CLOSED: ["CLOSED", "bad", "This order was closed without a payment."],
  REFUNDED: ["REFUNDED", "bad", "Everything was refunded; the money is on its way back to you."],
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
  put("refunded", refunded ? `${order.currency} ${order.refunded}` : "nothing");
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
  let patience = 500;
  for (;;) {
    try {
      const path = `/shop/orders/${encodeURIComponent(page.dataset.order)}/state?version=${version}`;
      const answer = await fetch(path);
      if (!answer.ok) throw new Error(String(answer.status));
      const order = await answer.json();
      show(order);
      // An answer that came at once without news would otherwise be asked for again without a pause.
      if (order.version <= version) await pause(300);
      version = order.version;
      patience = 500;
    } catch {
      await pause(patience);
      patience = Math.min(patience * 2, 8000);
    }
  }
}

follow();
