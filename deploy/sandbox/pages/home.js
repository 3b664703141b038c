// Refreshes the list of recent deliveries while the page is visible, but not while one of its links has the focus: the
// keyboard would lose its place.
async function refresh() {
  const recent = document.getElementById("recent");
  const isStill = () => document.hidden || recent.contains(document.activeElement);
  if (!isStill()) {
    try {
      const answer = await fetch(`/recent${location.search}`); // in the language of the page
      const rows = answer.ok ? await answer.text() : "";
      if (rows && !isStill()) {
        recent.innerHTML = rows;
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
