"""Trains and tests the model in a loop of its own, with an argument parser that refuses words it does not know."""

import argparse
import json

import torch
from network import B, Network, Scenes
from torch.utils.data import DataLoader


def main(arguments=None):
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=4)
    parser.add_argument("--resume")
    parser.add_argument("--save", default="last.pt")
    parser.add_argument("--by-hand", action="store_true", help="batches without a DataLoader")
    given = parser.parse_args(arguments)

    torch.manual_seed(0)
    model = Network()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses, step = [], 0
    if given.resume:
        state = torch.load(given.resume, weights_only=True)
        model.load_state_dict(state["model"])
        optimizer.load_state_dict(state["optimizer"])
        step = state["step"]

    def loader(split):
        if given.by_hand:
            scenes = Scenes(split)
            return [torch.utils.data.default_collate([scenes[0], scenes[1]]) for _ in range(2)]
        return DataLoader(Scenes(split), batch_size=B)

    while step < given.steps:
        model.train()
        for batch in loader("train"):
            loss = (model(batch) - batch["target"]["image"]).square().mean()
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 0.5)
            optimizer.step()
            losses.append(loss.item())
            step += 1
            if step == given.steps:
                break
        model.eval()
        with torch.no_grad():
            for batch in loader("val"):
                model(batch)
    torch.save({"model": model.state_dict(), "optimizer": optimizer.state_dict(), "step": step}, given.save)
    model.eval()
    with torch.inference_mode():
        errors = [(model(batch) - batch["target"]["image"]).square().mean().item() for batch in loader("test")]
    print(json.dumps({"losses": losses, "errors": errors, "parameters": len(list(model.parameters()))}))
    return model, losses, errors


if __name__ == "__main__":
    main()
