"""What a search answers, as the command line prints it and the service sends it."""

from pydantic import BaseModel, Field

from xpool_platform.search.moments import Moment


class FrameAnswer(BaseModel):
    """A sampled frame of a video."""

    time_s: float = Field(description="when it is shown, in seconds of the file")
    weight: float | None = Field(description="its share in the text's attention")
    thumbnail: str | None = Field(description="where the service has it as a JPEG file")


class MomentAnswer(BaseModel):
    """A stretch of a video that the text attends to."""

    start_s: float
    end_s: float
    weight: float = Field(description="the share of its frames in the text's attention")

    @classmethod
    def of(cls, moment: Moment) -> "MomentAnswer":
        return cls(start_s=moment.start_s, end_s=moment.end_s, weight=moment.weight)


class VideoAnswer(BaseModel):
    """A video that was found."""

    rank: int
    video_id: str
    score: float = Field(description="cosine of the text with the video as pooled for it")
    start_s: float = Field(description="where the video begins in its file")
    end_s: float
    duration_s: float
    captions: list[str] = Field(description="the first few of them")
    num_captions: int
    moments: list[MomentAnswer] = Field(description="the best first; none without a text")
    frames: list[FrameAnswer]
    video: str | None = Field(description="where the service has the file")


class QueryAnswer(BaseModel):
    """The videos found for a query."""

    query: str
    results: list[VideoAnswer]


class SearchAnswer(BaseModel):
    """The answers to some queries."""

    num_videos: int
    method: str
    took_ms: float
    answers: list[QueryAnswer]


class AttentionAnswer(BaseModel):
    """How one text attends to one video."""

    query: str
    video_id: str
    score: float
    moments: list[MomentAnswer]
    frames: list[FrameAnswer]


class SimilarAnswer(BaseModel):
    """Videos like one, for no text; the score is the cosine of the means of their frames."""

    video_id: str
    results: list[VideoAnswer]


class CaptionAnswer(BaseModel):
    """A caption that was found."""

    rank: int
    caption: str
    video_id: str = Field(description="whose caption it is")
    score: float


class CaptionsAnswer(BaseModel):
    """The captions that fit a video best."""

    video_id: str
    results: list[CaptionAnswer]
