// Refreshes the list of what was sent, while somebody looks.
async function refresh() {
  if (!document.hidden) {
    try {
      const answer = await fetch("/recent");
      if (answer.ok) document.getElementById("recent").innerHTML = await answer.text();
    } catch { /* the sandbox has stopped; the list stays as it was */ }
  }
  setTimeout(refresh, 1500);
}
setTimeout(refresh, 1500);
