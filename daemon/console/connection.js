// Says since when a page is not connected. When the session has ended meanwhile, goes to the login page:
// the socket alone cannot tell that from a daemon that is away.
addEventListener("DOMContentLoaded", () => {
  const popup = document.getElementById("popup");
  const words = popup.appendChild(document.createElement("span"));
  popup.setAttribute("role", "alert");
  let asking = null;
  const ask = async () => {
    const answer = await fetch(location.pathname, { method: "HEAD", cache: "no-store" }).catch(() => null);
    if (answer !== null && answer.status === 401) location.reload();
  };
  new MutationObserver(() => {
    const lost = popup.getAttribute("aria-hidden") === "false";
    if (lost && asking === null) {
      words.textContent = `What you see is of ${new Date().toISOString().slice(11, 19)} UTC and older.`;
      asking = setInterval(ask, 5000);
    } else if (!lost && asking !== null) {
      clearInterval(asking);
      asking = null;
    }
  }).observe(popup, { attributes: true, attributeFilter: ["aria-hidden"] });
});
