"""The region family: boxes are proposed, refined and masked one by one (Mask R-CNN, Cascade R-CNN, PointRend)."""
