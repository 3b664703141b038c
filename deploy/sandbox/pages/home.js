// Refreshes the list of recent deliveries while the page is visible.
async function refresh() {
  if (!document.hidden) {
    try {
      const answer = await fetch("/recent");
      if (answer.ok) document.getElementById("recent").innerHTML = await answer.text();
    } catch { /* the sandbox has stopped; keep the list */ }
  }
  setTimeout(refresh, 1500);
}
setTimeout(refresh, 1500);
