/* Search in pages opened from a folder: browsers refuse workers there, so the search script runs in a hidden frame. */
if (location.protocol === "file:") {
  window.Worker = class extends EventTarget {
    constructor(url) {
      super()
      this.waiting = []
      const frame = document.createElement("iframe")
      frame.hidden = true
      frame.addEventListener("load", () => {
        const scope = frame.contentWindow
        scope.postMessage = data => this.dispatchEvent(new MessageEvent("message", { data }))
        const script = scope.document.createElement("script")
        script.src = url
        script.addEventListener("load", () => {
          this.scope = scope
          this.waiting.splice(0).forEach(data => this.postMessage(data))
        })
        scope.document.body.append(script)
      }, { once: true })
      document.body.append(frame)
    }

    postMessage(data) {
      if (this.scope) this.scope.dispatchEvent(new MessageEvent("message", { data }))
      else this.waiting.push(data)
    }
  }
}
