// Refreshes the list of recent deliveries while the page is visible.
async function refresh() {
  if (!document.hidden) {
    try {
      const answer = await fetch(`/recent${location.search}`); // in the language of the page
      if (answer.ok) {
        const recent = document.getElementById("recent");
        recent.innerHTML = await answer.text();
        showZones(recent);
      }
    } catch { /* the sandbox has stopped; keep the list */ }
  }
  setTimeout(refresh, 1500);
}
setTimeout(refresh, 1500);

// Shows the chosen scenario's sentence and end, and offers only the accounts that it suits.
const scenario = document.getElementById("scenario");
const account = document.getElementById("account");
function choose() {
  const { tells, end, accounts } = scenario.selectedOptions[0].dataset;
  document.getElementById("tells").textContent = t("{tells} Ends: {end}.", { tells, end });
  const suited = new Set(accounts.split(" "));
  for (const option of account.options) option.disabled = !suited.has(option.value);
  if (account.selectedOptions[0].disabled) account.value = [...suited][0];
}
scenario.addEventListener("change", choose);
choose();
